"""What the examples share: arguments, and figures in the style of the package."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from fastthermo.plot import STYLE, save

FIGURES = Path(__file__).parent / "figures"


def figure(path: Path, panels: int, draw: Callable[..., Any]) -> None:
    """Write the figure that draw(*axes) makes on a row of panels."""
    with rc_context({**STYLE, "legend.loc": "upper right"}):
        page = Figure(figsize=(4.2 * panels, 3.4), layout="constrained")
        draw(*page.subplots(1, panels, squeeze=False)[0])
        save(page, path)


def run(main: Callable[[Path, bool], dict[str, Any]], doc: str | None) -> None:
    """Run an example from the command line and print what it found."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=FIGURES, help="folder of the figure (default examples/figures)")
    parser.add_argument("--quick", action="store_true", help="small sizes")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    np.set_printoptions(precision=4, threshold=24, suppress=True)
    for name, value in main(arguments.out, arguments.quick).items():
        print(f"{name:20} {value}")
