"""The order of imports: a module imports from lines below its own, and within a line only as written."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LINES = [
    ["__main__"],
    ["cli"],
    ["sweep", "survey", "portrait", "training", "experiments"],
    ["plot", "datasets"],
    ["exponents", "regimes", "critical", "sampling", "sharding", "paths"],
    ["adapters", "response", "denoiser"],
    ["ensemble", "solvable", "state"],
    ["ops", "_dispatch"],
    ["process"],
    ["_arrays", "_files", "_results"],
]
WITHIN = {  # importer -> imported, on one line
    ("survey", "portrait"),
    ("experiments", "portrait"),
    ("experiments", "training"),
    ("_results", "_files"),
    ("exponents", "critical"),
    ("exponents", "regimes"),
    ("exponents", "sampling"),
    ("regimes", "critical"),
    ("regimes", "sampling"),
    ("critical", "sampling"),
    ("adapters", "denoiser"),
    ("adapters", "response"),
    ("response", "denoiser"),
    ("ensemble", "state"),
    ("solvable", "ensemble"),
    ("solvable", "state"),
    ("ops", "_dispatch"),
}
DOORS = {"ops", "cli"}  # to the kernels; `fastthermo doctor` names the folder of compiled code
LINE = {name: i for i, line in enumerate(LINES) for name in line}


def imported(path: Path) -> set[str]:
    """Dotted names of the modules that a file imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} imports relatively"
            assert node.module
            # `from fastthermo import ops` imports fastthermo.ops, `from fastthermo.ops import States` does not
            names |= {
                f"{node.module}.{alias.name}" if node.module == "fastthermo" else node.module for alias in node.names
            }
    return names


def ours(path: Path) -> set[str]:
    """First names below fastthermo that a file imports."""
    return {name.split(".")[1] for name in imported(path) if name.startswith("fastthermo.")}


def sources(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def module(path: Path) -> str:
    return path.relative_to(ROOT / "fastthermo").with_suffix("").parts[0]


FILES = [path for path in sources("fastthermo") if path != ROOT / "fastthermo" / "__init__.py"]


def test_every_module_has_a_line() -> None:
    assert {module(path) for path in FILES} <= LINE.keys()


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_import_from_lines_below(path: Path) -> None:
    name = module(path)
    for other in ours(path) - {name, "kernels", "__version__"}:
        assert LINE[other] > LINE[name] or (name, other) in WITHIN, f"{name} imports {other}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_ops_is_the_door_to_the_kernels(path: Path) -> None:
    assert "kernels" not in ours(path) or module(path) in DOORS


@pytest.mark.parametrize("path", sources("kernels"), ids=lambda path: str(path.relative_to(ROOT)))
def test_kernels_import_neither_their_siblings_nor_the_rest_of_the_package(path: Path) -> None:
    parts = path.relative_to(ROOT / "kernels").parts
    shared = {
        "fastthermo.kernels",
        "fastthermo.kernels.bounds",
        "fastthermo.kernels.living",
        "fastthermo.kernels.noise",
        "fastthermo.kernels.trajectory",
    }
    for name in imported(path):
        if name == "fastthermo" or name.startswith("fastthermo."):
            own = len(parts) > 1 and name.startswith(f"fastthermo.kernels.{parts[0]}")
            assert name in shared or own, f"{path} imports {name}"
        assert name.split(".")[0] != "kernels", f"{path} imports {name}"


def test_the_contract_of_the_kernels_imports_nothing() -> None:
    assert imported(ROOT / "kernels" / "__init__.py") <= {"typing"}


def test_backends_offer_the_same_functions() -> None:
    from importlib import import_module

    from fastthermo._dispatch import BACKENDS

    offered = {name: set(import_module(f"fastthermo.kernels.{name}").__all__) for name in BACKENDS}
    needed, optional = {"boltzmann", "covariance", "cumulant", "evolve", "pack", "step", "top_weights"}, {"derive"}
    assert all(needed <= own <= needed | optional for own in offered.values())
