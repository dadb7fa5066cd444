"""The pages of the site: their code runs, their links lead somewhere, and they leave nothing out.

The tutorials are executed by the build of the site, ``make docs``.
"""

import ast
import doctest
import importlib
import re
from pathlib import Path

import pytest
import torch

from sfnn_pyro.estimators import ESTIMATORS

DOCS = Path(__file__).parent.parent / "docs"
NEEDED = {
    "how-to/arviz.md": "arviz",
    "how-to/lightning.md": "lightning",
    "how-to/tensorboard.md": "tensorboard",
}
"""What a page needs beside the package; its own warnings are its own affair."""

RUN_ELSEWHERE = {"distributed.md"}
"""Pages whose code other tests run, here tests/distributed."""


def pages():
    """Every page but the tutorials, by its path below docs/."""
    found = sorted(DOCS.rglob("*.md"))
    names = [path.relative_to(DOCS).as_posix() for path in found]
    return [name for name in names if not name.startswith(("_build", "api/generated", "tutorials"))]


def blocks(page, language):
    """The code blocks of a page."""
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)


def with_code(language):
    """The pages that hold code of a language, as parameters of a test."""
    found = [page for page in pages() if blocks(page, language) and page not in RUN_ELSEWHERE]
    ignored = pytest.mark.filterwarnings("ignore")
    return [pytest.param(page, marks=[ignored] if page in NEEDED else []) for page in found]


@pytest.fixture
def as_a_reader(monkeypatch, tmp_path):
    """An empty folder, and PyTorch's own default type."""
    monkeypatch.chdir(tmp_path)
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("page", with_code("python"))
def test_code_runs(page, as_a_reader):
    if page in NEEDED:
        pytest.importorskip(NEEDED[page])
    for name, text in re.findall(
        r"A file `([^`]+)`.*?```toml\n(.*?)```", (DOCS / page).read_text(), re.DOTALL
    ):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text)
    scope = {}
    for block in blocks(page, "python"):
        exec(compile(block, page, "exec"), scope)


@pytest.mark.parametrize("page", with_code("pycon"))
def test_sessions_run(page, as_a_reader):
    text = "\n".join(blocks(page, "pycon"))
    session = doctest.DocTestParser().get_doctest(text, {}, page, page, 0)
    report = []
    doctest.DocTestRunner().run(session, out=report.append)
    assert not report, "".join(report)


def test_every_estimator_is_on_the_page():
    text = (DOCS / "estimators.md").read_text()
    for name, estimator in ESTIMATORS.items():
        assert f"`{estimator.__name__}`" in text, name
        row = next(line for line in text.splitlines() if line.startswith(f"| `{name}`"))
        declared = "yes" if estimator(num_particles=2).unbiased else "no"
        assert f"| {declared}" in row, row


def test_links_between_pages_exist():
    for page in pages():
        text = re.sub(r"```.*?```", "", (DOCS / page).read_text(), flags=re.DOTALL)
        for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
            if not (link.startswith("http") or link.startswith("tutorials/")):
                assert (DOCS / page).parent.joinpath(link).exists(), f"{page}: {link}"


# The paper beside the code


def equations():
    """What the page says below each equation, by number."""
    parts = re.split(r"^### Equation (\d+)$", (DOCS / "paper.md").read_text(), flags=re.MULTILINE)
    return dict(zip(map(int, parts[1::2]), parts[2::2], strict=True))


def test_every_equation_is_there_in_order_with_code():
    assert list(equations()) == list(range(1, 33))
    for number, text in equations().items():
        assert "$$" in text, number
        assert ">>>" in text, number


def cited():
    """Numbers of the paper's equations in docstrings, with the object that cites each."""
    root = DOCS.parent
    for folder in ("sfnn_pyro", "models", "guides", "experiments"):
        for path in sorted(root.joinpath(folder).rglob("*.py")):
            if not any(part.is_symlink() for part in path.parents):
                yield from _cited_in(ast.parse(path.read_text()), "")


def _cited_in(node, name):
    for number in _numbers(ast.get_docstring(node) or ""):
        yield name, number
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef | ast.FunctionDef):
            yield from _cited_in(child, f"{name}.{child.name}".lstrip("."))


def _numbers(docstring):
    """Equation numbers, without those of other papers, whose references name them."""
    for entry in docstring.split(";"):
        if "arXiv" in entry and "Raiko" not in entry:
            continue
        for first, word, last in re.findall(r"\beqs?\. (\d+)(?: (to|and) (\d+))?", entry):
            yield int(first)
            if word:
                yield from range(int(first) + 1 if word == "to" else int(last), int(last) + 1)


def test_what_cites_an_equation_stands_below_it():
    page = equations()
    found = list(cited())
    assert ("G5", 32) in found
    assert ("SFNN", 2) in found
    for name, number in found:
        assert number in page, f"{name} cites equation {number}"
        private = not name or any(part.startswith("_") for part in name.split("."))
        assert private or f"{name}`" in page[number] or f"{name} <" in page[number], (
            f"{name} cites equation {number}, and is not named below it in docs/paper.md"
        )


# The interface


@pytest.mark.parametrize("page", sorted((DOCS / "api").glob("*.md")), ids=lambda page: page.stem)
def test_every_public_name_is_on_its_page(page):
    text = page.read_text()
    if page.stem == "index":
        return
    (module,) = re.findall(r"automodule:: (\S+)", text)
    package = importlib.import_module(module)
    listed = re.findall(r"^   ([\w.]+)$", text, re.MULTILINE)
    for name in listed:
        thing = package
        for part in name.split("."):
            thing = getattr(thing, part)
    shown = {name.rpartition(".")[2] for name in listed}
    public = {name for name in getattr(package, "__all__", []) if not name.isupper()}
    assert not public - shown, f"{sorted(public - shown)} are not on {page.name}"
