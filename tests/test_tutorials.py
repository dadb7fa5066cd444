"""The tutorials run, cell by cell, and assert what they say."""

import re
from pathlib import Path

import pytest
import torch

TUTORIALS = Path(__file__).parent.parent / "docs" / "tutorials"
CELL = re.compile(r"^```\{code-cell\} ipython3\n((?::.*\n)*)((?:.*\n)*?)```$", re.MULTILINE)
PAGES = sorted(page.stem for page in TUTORIALS.glob("*.md") if page.stem != "index")


def text_of(page):
    return (TUTORIALS / f"{page}.md").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_its_code_runs(page):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    torch.set_default_dtype(torch.float32)
    scope = {"__name__": "__main__"}
    try:
        for number, (_, code) in enumerate(CELL.findall(text_of(page)), 1):
            exec(compile(code, f"{page}, cell {number}", "exec"), scope)
        figures = [plt.figure(number) for number in plt.get_fignums()]
        check_labels(figures)
    finally:
        plt.close("all")


def check_labels(figures):
    """Axes with a scale have labels; pictures have neither."""
    for figure in figures:
        for axes in figure.axes:
            if not axes.images:
                assert axes.get_xlabel() and axes.get_ylabel(), axes.get_title()


def test_all_of_them_are_in_the_index():
    assert len(PAGES) == 7
    index = text_of("index")
    for page in PAGES:
        assert f"({page}.md)" in index and f"\n{page}\n" in index, page


@pytest.mark.parametrize("page", [*PAGES, "index"])
def test_its_form(page):
    text = text_of(page)
    for link in re.findall(r"\]\(([^)#]+)\)", CELL.sub("", text)):
        assert link.startswith("https://") or (TUTORIALS / link).exists(), link
    if page == "index":
        return
    assert text.count("{code-cell}") == len(CELL.findall(text)), "a cell is not closed"
    assert "This page shows" in text and "## Read next" in text
    hidden = "".join(code for options, code in CELL.findall(text) if "hide-cell" in options)
    assert "assert " in hidden
