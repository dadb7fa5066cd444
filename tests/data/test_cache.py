import pytest

from sfnn_pyro.data.cache import data_folders, find, read_source
from sfnn_pyro.data.reading import sha256
from sfnn_pyro.data.sources import Source, SourceFile
from tests.data.helpers import refusal
from tests.data.made_up import zipped

CONTENTS = b"contents"
FILE = SourceFile("file.bin", sha256(CONTENTS), 100)
SOURCE = Source("made-up", (FILE,), advice="ask a friend")


def put(*places, data=CONTENTS):
    for path in places:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


@pytest.fixture
def named(tmp_path, monkeypatch):
    folder = tmp_path / "named"
    monkeypatch.setenv("SFNN_DATA", str(folder))
    return folder


@pytest.mark.parametrize(
    "place", ["made-up/file.bin", "made-up/file.bin.gz", "file.bin", "file.bin.gz"]
)
def test_a_file_is_found_in_each_place(tmp_path, named, cache_folder, place):
    for folder, root in (
        (cache_folder, None),
        (named, None),
        (tmp_path / "root", tmp_path / "root"),
    ):
        put(folder / place)
        assert find(SOURCE, FILE, root) == folder / place


def test_the_order_is_the_named_folder_and_then_the_cache(named, cache_folder):
    assert data_folders() == [named, cache_folder]
    put(named / "file.bin", cache_folder / "made-up" / "file.bin")
    assert find(SOURCE, FILE) == named / "file.bin"
    (named / "file.bin").unlink()
    assert find(SOURCE, FILE) == cache_folder / "made-up" / "file.bin"


def test_a_root_is_searched_alone(tmp_path, named, cache_folder):
    put(named / "file.bin", cache_folder / "file.bin")
    with refusal("made-up: no file file.bin", str(tmp_path / "elsewhere"), "ask a friend"):
        find(SOURCE, FILE, tmp_path / "elsewhere")


def test_every_folder_that_was_searched_is_named(named, cache_folder):
    with refusal(str(named), str(cache_folder)):
        find(SOURCE, FILE)


@pytest.mark.parametrize("value", ["", None])
def test_an_empty_variable_is_no_folder(monkeypatch, cache_folder, value):
    if value is not None:
        monkeypatch.setenv("SFNN_DATA", value)
    assert data_folders() == [cache_folder]


def test_the_home_folder_may_be_abbreviated(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SFNN_DATA", "~/faces")
    assert data_folders()[0] == tmp_path / "faces"


@pytest.mark.parametrize("root", ["x" * 5000, "nul\0byte"])
def test_an_impossible_folder_has_no_file(root):
    with refusal("no file file.bin"):
        find(SOURCE, FILE, root)


def test_a_folder_of_the_files_name_is_not_the_file(tmp_path):
    (tmp_path / "file.bin").mkdir()
    put(tmp_path / "file.bin.gz", data=zipped(CONTENTS))
    assert read_source(SOURCE, FILE, tmp_path) == (tmp_path / "file.bin.gz", CONTENTS)


def test_the_checksum_is_of_the_decompressed_contents(tmp_path):
    for data in (CONTENTS, zipped(CONTENTS)):
        put(tmp_path / "file.bin", data=data)
        assert read_source(SOURCE, FILE, tmp_path)[1] == CONTENTS
    put(tmp_path / "file.bin", data=b"others")
    with refusal(str(tmp_path / "file.bin"), "SHA-256", "sfnn data download made-up"):
        read_source(SOURCE, FILE, tmp_path)
