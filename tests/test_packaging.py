"""The wheel holds every package, the marker for type checkers, and nothing else."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Names of the files in a wheel built from a copy of the sources."""
    pytest.importorskip("build")
    copy = tmp_path_factory.mktemp("source")
    for name in ("fastthermo", "kernels", "tests"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path in ROOT.iterdir():
        if path.is_file():
            shutil.copy(path, copy)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(copy / "dist"), str(copy)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=250)
    assert result.returncode == 0, result.stdout + result.stderr
    (built,) = (copy / "dist").glob("*.whl")
    assert built.name.endswith("-py3-none-any.whl")
    return set(zipfile.ZipFile(built).namelist())


@pytest.mark.parametrize("folder", ["fastthermo", "kernels"])
def test_the_wheel_holds_every_module(wheel: set[str], folder: str) -> None:
    inside = "fastthermo" if folder == "fastthermo" else "fastthermo/kernels"
    for path in (ROOT / folder).rglob("*.py"):
        assert f"{inside}/{path.relative_to(ROOT / folder).as_posix()}" in wheel


def test_the_wheel_is_marked_as_typed(wheel: set[str]) -> None:
    assert "fastthermo/py.typed" in wheel


def test_the_wheel_holds_nothing_else(wheel: set[str]) -> None:
    top = {name.split("/")[0] for name in wheel}
    assert {name for name in top if not name.endswith(".dist-info")} == {"fastthermo"}
    assert {Path(name).suffix for name in wheel if name.startswith("fastthermo/")} == {".py", ".typed"}


def test_the_wheel_carries_its_licence_and_command(wheel: set[str]) -> None:
    assert any(name.endswith("licenses/LICENSE") for name in wheel)
    assert any(name.endswith("entry_points.txt") for name in wheel)
