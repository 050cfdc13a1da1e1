"""What importing costs and where compiled code goes, in fresh processes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import fastthermo as ft

ROOT = Path(__file__).parents[1]
HEAVY = ["torch", "numba", "triton", "scipy", "matplotlib", "xarray", "zarr", "sklearn", "tqdm", "pandas"]


def python(code: str, folder: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=250,
    )


def loaded(code: str) -> set[str]:
    result = python(f"{code}; import sys; print(*sys.modules)")
    assert result.returncode == 0, result.stderr
    return {name.split(".")[0] for name in result.stdout.split()}


def test_import_is_light() -> None:
    assert not loaded("import fastthermo, fastthermo.kernels") & set(HEAVY)


def test_processes_need_no_arrays_library_but_numpy() -> None:
    assert not loaded("import fastthermo as ft; ft.VarianceExploding().alpha(1.0); ft.EDM().drift(1.0)") & set(HEAVY)


def test_the_command_line_shows_its_help_without_heavy_imports() -> None:
    pytest.importorskip("fastthermo.cli")
    assert not loaded("import fastthermo.cli") & set(HEAVY)


def test_every_public_name_resolves() -> None:
    for name in ft.__all__:
        assert getattr(ft, name) is not None
        assert name in dir(ft)
    assert len(set(ft.__all__)) == len(ft.__all__)
    assert not {"Any", "TYPE_CHECKING", "import_module"} & set(dir(ft))


def test_public_names_are_declared_to_type_checkers() -> None:
    source = (ROOT / "fastthermo" / "__init__.py").read_text(encoding="utf-8")
    assert all(f"import {name} as {name}" in source for name in ft.__all__)


def test_unknown_names_raise_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'temperature'"):
        _ = ft.temperature  # type: ignore[attr-defined]


def test_kernels_are_refused_under_another_name() -> None:
    result = python("import kernels", ROOT)
    assert result.returncode != 0
    assert "ImportError" in result.stderr
    assert "fastthermo.kernels" in result.stderr


def test_compiled_code_goes_to_the_folder_asked_for_and_not_beside_the_sources(tmp_path: Path) -> None:
    before = {path for path in ROOT.glob("kernels/**/*") if path.suffix in (".nbi", ".nbc")}
    code = "from fastthermo import ops; print(float(ops.normal(1, 1, 0, 0, 0)))"
    result = python(code, tmp_path, FASTTHERMO_CACHE=str(tmp_path / "cache"))
    assert result.returncode == 0, result.stderr
    assert list((tmp_path / "cache").rglob("*.nbi"))
    assert {path for path in ROOT.glob("kernels/**/*") if path.suffix in (".nbi", ".nbc")} == before == set()
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


def test_compiled_and_cached_kernels_give_the_same_bits(tmp_path: Path) -> None:
    code = """
import hashlib, numpy, torch
from fastthermo import ops
y = torch.from_numpy(numpy.random.default_rng(0).integers(0, 256, (9000, 40)).astype(numpy.uint8))
law = ops.States(y, torch.full((9000,), -9.0).double())
found = ops.boltzmann(law, y[:20].double(), torch.full((20,), 1e-5).double())
print(hashlib.sha256(b"".join(x.numpy().tobytes() for x in found if isinstance(x, torch.Tensor))).hexdigest())
"""
    results = [python(code, tmp_path, FASTTHERMO_CACHE=str(tmp_path / "cache")) for _ in range(2)]
    assert all(result.returncode == 0 for result in results), results[0].stderr
    assert results[0].stdout == results[1].stdout


@pytest.mark.parametrize("name", ["numba/dense.py", "bounds.py", "noise.py"])
def test_a_cache_folder_is_keyed_by_all_that_kernels_are_compiled_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    from fastthermo.kernels.numba import compile as compiler

    for path in (ROOT / "kernels").glob("**/*.py"):
        copy = tmp_path / path.relative_to(ROOT / "kernels")
        copy.parent.mkdir(exist_ok=True)
        copy.write_bytes(path.read_bytes())
    monkeypatch.setattr(compiler, "__file__", str(tmp_path / "numba" / "compile.py"))
    before = compiler.cache_folder()
    assert compiler.cache_folder() == before
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes() + b"\n")
    assert compiler.cache_folder() != before
