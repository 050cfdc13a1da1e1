"""API reference from the docstrings into docs/: public names under `fastthermo`, then every module."""

import pkgutil
from pathlib import Path

import pdoc
import pdoc.render

import fastthermo
import fastthermo.kernels

for name in fastthermo.__all__:
    setattr(fastthermo, name, getattr(fastthermo, name))  # lazily imported names, for pdoc to find
modules = [m.name for m in pkgutil.iter_modules(fastthermo.__path__, "fastthermo.") if "._" not in m.name]
pdoc.render.configure(docformat="numpy", math=True)
pdoc.pdoc("fastthermo", *modules, "fastthermo.kernels", output_directory=Path("docs"))
print("docs/index.html")
