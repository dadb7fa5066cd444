"""The page opens from the disk and from a server, alone, and says what is wrong if it cannot."""

import shutil

import pytest

from sfnn_pyro.data import load_dataset
from sfnn_pyro.web.exporter import PAGE_FILES, page_file
from tests.web.networks import network, pictures, write

from .conftest import DOCS


@pytest.fixture
def copy(tmp_path):
    return shutil.copytree(DOCS, tmp_path / "draw")


@pytest.fixture(params=["docs", "recognised"])
def folder(request):
    """The documentation's page, and one with a recognition network."""
    return DOCS if request.param == "docs" else request.getfixturevalue("recognised_folder")


def address(folder, serve, how: str) -> str:
    return (folder / "index.html").as_uri() if how == "disk" else f"{serve(folder)}/index.html"


@pytest.mark.parametrize("how", ["disk", "server"])
def test_nothing_is_requested_off_the_page_and_nothing_complained(visit, serve, folder, how):
    url = address(folder, serve, how)
    opened = visit(url).ready()
    opened.stroke((1, 1), (2, 6), (6, 4))
    for selector in ("#again", "#clear-evidence", "#undo", "#clear", "#examples li button"):
        opened.page.click(selector)
    if folder != DOCS:
        opened.page.check("input[name=proposal][value=recognition]")
    opened.settle()
    start = url.removesuffix("index.html")
    assert all(one.startswith((start, "data:")) for one in opened.requests), opened.requests
    names = {one.removeprefix(start) for one in opened.requests if one.startswith(start)}
    other = "deterministic.bin" if folder == DOCS else "recognition.bin"
    files = {"network.json", "stochastic.bin", other, "examples.bin"}
    read = {f"disk/{name}.js" for name in files} if how == "disk" else files
    assert names == set(PAGE_FILES) | read
    assert not opened.complaints


@pytest.mark.parametrize("how", ["disk", "server"])
@pytest.mark.parametrize("name", ["network.json", "stochastic.bin", "recognition.bin"])
@pytest.mark.parametrize("harm", ["missing", "empty", "cut", "altered"])
def test_a_harmed_file_gives_a_sentence(visit, serve, recognised_folder, tmp_path, how, name, harm):
    copy = shutil.copytree(recognised_folder, tmp_path / "draw")
    path = copy / (f"disk/{name}.js" if how == "disk" else name)
    content = path.read_bytes()
    if harm == "missing":
        path.unlink()
    elif harm == "altered":
        middle = len(content) // 2
        swapped = bytes([content[middle] ^ 1])
        if name == "network.json":  # its JSON still reads, but is of another format
            content = content.replace(b"page 1", b"page 9").replace(b"cGFnZSAx", b"cGFnZSA5")
        else:
            content = content[:middle] + swapped + content[middle + 1 :]
        path.write_bytes(content)
    else:
        path.write_bytes(content[: len(content) // 2 if harm == "cut" else 0])
    opened = visit(address(copy, serve, how))
    opened.page.wait_for_selector("#failure:visible")
    sentence = opened.page.inner_text("#failure")
    assert name in sentence and sentence.endswith("."), sentence
    assert "sfnn export" in sentence
    assert not opened.page.is_visible("#main")


@pytest.mark.parametrize("name", [name for name in PAGE_FILES if name.endswith(".js")][:-1])
def test_a_missing_script_gives_a_sentence(visit, copy, name):
    (copy / name).unlink()
    opened = visit((copy / "index.html").as_uri())
    opened.page.wait_for_selector("#failure:visible")
    assert "missing" in opened.page.inner_text("#failure")


def test_the_documentations_page_is_the_packages():
    for name in PAGE_FILES:
        assert (DOCS / name).read_text(encoding="utf-8") == page_file(name), name


def test_the_documentation_holds_two_networks_and_no_large_file():
    binaries = {"stochastic.bin", "deterministic.bin", "examples.bin"}
    assert {path.name for path in DOCS.glob("*.bin")} == binaries
    sizes = {path.name: path.stat().st_size for path in DOCS.rglob("*") if path.is_file()}
    assert max(sizes.values()) < 2**20
    for role in ("stochastic", "deterministic"):
        assert sizes[f"{role}.bin"] + sizes[f"{role}.bin.js"] < 2**20


@pytest.mark.parametrize("units", ["stochastic", "deterministic"])
@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_each_kind_of_network_opens(visit, tmp_path, likelihood, units):
    data = pictures(6, 6, likelihood)
    opened = visit(write(tmp_path, data, network(data, 8), units=units).url).ready()
    opened.stroke((1, 1), (3, 3))
    opened.stroke((8, 1), (9, 3))
    assert len(set(opened.pictures())) == 1 if units == "deterministic" else True
    ess = opened.evaluate("page.state.ess")
    assert 1 <= ess <= 100 * (1 + 1e-9)
    assert not opened.complaints
    assert not opened.page.is_visible("#proposals")


def test_the_demos_digits_open(visit, tmp_path):
    data = load_dataset("digits")
    opened = visit(write(tmp_path, data, network(data, 60, 60)).url).ready()
    before = opened.pictures()
    opened.stroke((0, 1), (2, 6))
    assert opened.pictures() != before
    assert opened.page.inner_text("h1") == "Draw half a digit"
