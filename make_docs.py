"""API reference from the docstrings into docs/: public names under `fastthermo`, then every module."""

import inspect
import pkgutil
import re
import warnings
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pdoc
import pdoc.doc_ast
import pdoc.render
from pdoc import render_helpers

import fastthermo

_walk_tree = pdoc.doc_ast.walk_tree


def walk_tree(obj: ModuleType | type) -> pdoc.doc_ast.AstInfo:
    """pdoc's, with the comments behind the fields of a class as their documentation."""
    info = _walk_tree(obj)
    if isinstance(obj, type):
        try:
            source = inspect.getsource(obj)
        except (OSError, TypeError):
            return info
        for name, text in re.findall(r"^    (\w+): [^#\n]*  # (.+)$", source, re.MULTILINE):
            info.var_docstrings.setdefault(name, text)
    return info


def to_markdown(docstring: str, *context: Any) -> str:
    """Sections of numpydoc as headings, `name : text` as items of a list."""
    headed = re.sub(r"^([A-Z][\w ]*)\n---+$", r"###### \1\n", docstring, flags=re.MULTILINE)
    return re.sub(r"^(\w[\w, ]*) : ", r"- **\1**: ", headed, flags=re.MULTILINE)


def to_html(text: str) -> str:
    """pdoc's, but that <y> is no tag."""
    return render_helpers.markdown2.markdown(  # type: ignore[no-any-return]
        text,
        extras=render_helpers.markdown_extensions,
        link_patterns=render_helpers.markdown_link_patterns,
        safe_mode="escape",
    )


def main(out: Path = Path("docs")) -> None:
    """Write the pages."""
    modules = [m.name for m in pkgutil.iter_modules(fastthermo.__path__) if not m.name.startswith("_")] + ["kernels"]
    for name in modules:
        import_module(f"fastthermo.{name}")
    for name in fastthermo.__all__:
        setattr(fastthermo, name, getattr(fastthermo, name))  # lazily imported names, for pdoc to find
    fastthermo.__all__ = sorted({*fastthermo.__all__, *modules})
    pdoc.doc_ast.walk_tree = walk_tree
    render_helpers.to_markdown = to_markdown
    pdoc.render.env.filters["to_html"] = to_html
    pdoc.render.configure(math=True)
    warnings.filterwarnings("ignore", "Error parsing type annotation|Failed to run TYPE_CHECKING code", UserWarning)
    pdoc.pdoc("fastthermo", output_directory=out)
    print(out / "index.html")


if __name__ == "__main__":
    main()
