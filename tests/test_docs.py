"""The API reference shows formulas as they are written, fields and parameters."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("pdoc")


@pytest.fixture(scope="module")
def make_docs() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_docs", Path(__file__).parents[1] / "make_docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_averages_are_no_tags(make_docs: ModuleType) -> None:
    assert "&lt;y&gt; - h = -grad F~" in make_docs.to_html("<y> - h = -grad F~")
    assert "<code>&lt;y&gt;</code>" in make_docs.to_html("`<y>`")


def test_parameters_are_items_of_a_list(make_docs: ModuleType) -> None:
    text = "Sample.\n\nParameters\n----------\nn : their\n    number.\nfield, beta : where.\n\nReturns\n-------\n(n, D)"
    page = make_docs.to_html(make_docs.to_markdown(text))
    assert page.count("<h6") == 2
    assert page.count("<li>") == 2
    assert "<li><strong>n</strong>: their" in page


def test_comments_behind_fields_document_them(make_docs: ModuleType) -> None:
    from fastthermo.state import BoltzmannState

    assert make_docs.walk_tree(BoltzmannState).var_docstrings["force"] == "<y> - h = -grad F~"
