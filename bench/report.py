"""Stored results as a figure and as the README's table: `python bench/report.py [--write]`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from itertools import accumulate
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from cases import ANY, CASES, STEPS, TARGETS
from machine import QUIET, ROOT, slug
from ours import ALL, BYTES, ONLY

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Row = dict[str, Any]
Latest = dict[tuple[str, str, str], Row]  # (case, temperature, contestant)
BEGIN, END = "<!-- bench -->", "<!-- /bench -->"
COLOURS = {"high": "#c1272d", "critical": "#e08a1e", "low": "#3d8fc6", "cold": "#173f7a", ANY: "0.35"}
LABELS = {
    "high": r"high, $N_\mathrm{eff} \approx 0.9\,N$",
    "critical": r"critical, $N_\mathrm{eff} \approx \sqrt{N}$",
    "low": r"low, $N_\mathrm{eff} \approx 4$",
    "cold": r"cold, $N_\mathrm{eff} = 1$",
}
STYLE = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "legend.frameon": False,
}


def read(folder: Path) -> dict[str, Latest]:
    """The last row of each contestant, by machine; without those that were timed while others were busy."""
    machines: dict[str, Latest] = {}
    for path in sorted(folder.glob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            if " @ " in row["contestant"] or (row["elsewhere"] or 0) > QUIET:  # a race of revisions; not quiet
                continue
            key = (row["case"], row["temperature"], row["contestant"])
            found = machines.setdefault(slug(row["machine"]), {})
            if key not in found or row["date"] >= found[key]["date"]:
                found[key] = row
    return machines


def headline(rows: Latest, case: str, temperature: str, variant: str = ALL) -> Row | None:
    """Our row with a ratio: of the variant for means, of the only contestant for other cases."""
    name = variant if CASES[case].op == "mean" else ONLY
    row = rows.get((case, temperature, name))
    return row if row is not None and row.get("ratio") is not None else None


def table(machines: dict[str, Latest]) -> str:
    """Markdown, a table a machine."""
    return "\n\n".join(_machine_table(rows) for rows in machines.values())


def _machine_table(rows: Latest) -> str:
    lines = [
        "| case | B, N, D | " + " | ".join(TARGETS) + " | error | its peer's | fastest peer |",
        "|---|---|" + "--:|" * (len(TARGETS) + 2) + "---|",
    ]
    steps: dict[str, list[str]] = {"step": [], "trajectory": []}
    for name, case in CASES.items():
        found = [row for t in case.temperatures if (row := headline(rows, name, t)) is not None]
        if not found:
            continue
        peers = [rows[name, row["temperature"], row["best_peer"]] for row in found]
        errors = [f"{max(row['error'] for row in group):.0e}" for group in (found, peers)]
        rivals = ", ".join(dict.fromkeys(row["best_peer"] for row in found))
        if case.op in steps:
            sizes = " x ".join(_sizes(found[0]))
            steps[case.op].append(f"{sizes}: {found[0]['ratio']:.2g} ({rivals}, error {errors[0]})")
            continue
        ratios = [_ratios(rows, name, t) for t in TARGETS]
        cells = (name, ", ".join(_sizes(found[0])), *ratios, *errors, rivals)
        lines.append(f"| {' | '.join(cells)} |")
    titles = {
        "step": "Steps a x + b mean + c z, float32",
        "trajectory": f"{STEPS} steps of a sampler, each with its mean",
    }
    ends = [f"{titles[op]}: {'; '.join(found)}." for op, found in steps.items() if found]
    return "\n".join([*lines, "", *ends, _caption(rows.values())])


def _sizes(row: Row) -> list[str]:
    """B, N, D; B, D of a step."""
    return [str(row[key]) for key in ("queries", "states", "dimension") if row[key]]


def _ratios(rows: Latest, case: str, temperature: str) -> str:
    """Ratio with float32 states, and with bytes where those were timed."""
    found = [headline(rows, case, temperature, variant) for variant in (ALL, BYTES)]
    if CASES[case].op != "mean":
        found = found[:1]
    return " / ".join(f"{row['ratio']:.2g}" for row in found if row is not None) or "-"


def _caption(rows: Iterable[Row]) -> str:
    rows = list(rows)
    return (
        "Time of the fastest peer over ours, medians of interleaved calls, each ratio from one run; two "
        "numbers: states as float32 / as bytes. Errors: the largest over temperatures, against float64, of the force "
        f"relative to its rms (of covariances and C v to its square). {origin(rows)}."
    )


def origin(rows: Iterable[Row]) -> str:
    """Machine, dates and commits of some rows of one machine."""
    rows = list(rows)
    machine, versions = rows[-1]["machine"], rows[-1]["versions"]
    runs = dict.fromkeys((row["commit"] + " (modified)" * row["dirty"], row["date"][:10]) for row in rows)
    commits = ", ".join(f"{commit} on {date}" for commit, date in sorted(runs, key=lambda run: run[1]))
    flags = f", {machine['flags'][-1]}" if machine["flags"] else ""
    cpu = f"{machine['cpu']} ({machine['core']}), {machine['threads']} threads{flags}"
    return f"{machine.get('gpu', cpu)}, torch {versions['torch']}, commit {commits}"


def figure(machines: dict[str, Latest]) -> Figure:
    """Ratios by case and temperature, a panel a machine."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    shown: Latest = {}
    for rows in machines.values():
        shown |= {key: row for key, row in rows.items() if headline(rows, *key[:2]) is not None}
    sizes = {case: " × ".join(_sizes(row)) for (case, *_), row in shown.items()}
    names = [name for name in CASES if name in sizes]
    tops = list(accumulate((max(3.4, len(CASES[name].temperatures) + 1.6) for name in names), initial=0.0))
    with rc_context(STYLE):
        canvas = Figure(figsize=(1.8 + 5.8 * len(machines), 1.7 + 0.115 * tops[-1]), layout="constrained")
        axes = canvas.subplots(1, len(machines), squeeze=False, sharey=True)[0]
        axes[0].set_ylim(tops[-1], 0)
        for name, top, bottom in zip(names, tops, tops[1:], strict=False):
            _label(axes[0], name, sizes[name], (top + bottom) / 2)
            for axis, rows in zip(axes, machines.values(), strict=True):
                _case(axis, rows, name, top, bottom)
        for axis, rows in zip(axes, machines.values(), strict=True):
            _scale(axis, origin(rows.values()))
        _legend(canvas)
    return canvas


def _case(axis: Axes, rows: Latest, name: str, top: float, bottom: float) -> None:
    if list(CASES).index(name) % 2:
        axis.axhspan(top, bottom, color="0.965", linewidth=0, zorder=0)
    temperatures = CASES[name].temperatures
    for k, temperature in enumerate(temperatures):
        _stick(axis, rows, name, temperature, (top + bottom) / 2 + k - (len(temperatures) - 1) / 2)


def _label(axis: Axes, name: str, sizes: str, y: float) -> None:
    """Name and sizes, left of the axis."""
    place: dict[str, Any] = {"xycoords": axis.get_yaxis_transform(), "textcoords": "offset points", "ha": "right"}
    axis.annotate(name, (0, y), (-8, 2), **place, fontweight="bold")
    axis.annotate(sizes, (0, y), (-8, -8), **place, fontsize=7.5, color="0.4")


def _scale(axis: Axes, title: str) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_xscale("log")
    low, high = axis.get_xlim()
    axis.set_xlim(min(low, 0.5), max(high, 2.5))
    axis.axvline(1, color="0.2", linewidth=1.2, zorder=2)
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}×"))
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.grid(axis="x", color="0.9", linewidth=0.8)
    axis.set_axisbelow(True)
    axis.set_yticks([])
    axis.set_xlabel("slower ←  time of the fastest peer / time of fastthermo  → faster")
    axis.set_title("\n".join(wrap(title, 80)), fontsize=7.5, color="0.35")


def _stick(axis: Axes, rows: Latest, name: str, temperature: str, y: float) -> None:
    colour = COLOURS[temperature]
    row = headline(rows, name, temperature)
    if row is not None:
        axis.plot([1, row["ratio"]], [y, y], color=colour, linewidth=1.6, alpha=0.55, zorder=3, solid_capstyle="butt")
        axis.plot(row["ratio"], y, "o", color=colour, markersize=5.5, zorder=5)
    lean = headline(rows, name, temperature, BYTES) if CASES[name].op == "mean" else None
    if lean is not None:
        axis.plot(lean["ratio"], y, "o", markerfacecolor="white", color=colour, markersize=5, zorder=4)


def _legend(canvas: Figure) -> None:
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], marker="o", color=COLOURS[t], label=LABELS[t], linewidth=1.6) for t in TARGETS]
    handles += [
        Line2D([], [], marker="o", color=COLOURS[ANY], label="states as float32", linewidth=0),
        Line2D([], [], marker="o", color=COLOURS[ANY], markerfacecolor="white", label="states as bytes", linewidth=0),
    ]
    canvas.legend(handles=handles, loc="outside upper center", ncols=3)


def insert(text: str, content: str) -> str:
    """`text` with what stands between the markers replaced."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"wanted the markers {BEGIN} and {END}, in this order, found {begin or end or 'neither'}")
    return f"{before}{BEGIN}\n\n{content}\n\n{END}{after}"


def main(arguments: list[str] | None = None) -> int:
    """Draw, print the table, and put it into the README where that is asked for."""
    folder = Path(__file__).parent / "results"
    parser = argparse.ArgumentParser(description="Draw stored results and print them as the README's table.")
    parser.add_argument("--results", type=Path, default=folder, help="folder of results (default: bench/results)")
    parser.add_argument("--write", action="store_true", help=f"put the table between {BEGIN} and {END} of the README")
    parser.add_argument(
        "--readme", type=Path, default=ROOT / "README.md", help="(default: README.md of the repository)"
    )
    options = parser.parse_args(arguments)
    machines = read(options.results)
    if not machines:
        print(f"no results in {options.results}; python bench/run.py makes them", file=sys.stderr)
        return 1
    picture = options.results / "ratios.png"
    figure(machines).savefig(picture, dpi=160)
    print(f"{table(machines)}\n\nfigure: {picture}")
    if options.write:
        try:
            text = insert(options.readme.read_text(encoding="utf-8"), table(machines))
        except ValueError as error:
            print(f"{options.readme}: {error}", file=sys.stderr)
            return 1
        options.readme.write_text(text, encoding="utf-8")
        print(f"table: {options.readme}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
