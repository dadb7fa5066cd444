import io
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from sfnn_pyro.data import download, mirrors, sources
from sfnn_pyro.data.reading import read_bytes, sha256
from sfnn_pyro.data.sources import MNIST, Source, SourceFile
from tests.data.helpers import refusal
from tests.data.made_up import zipped

CONTENTS = {"one": bytes(range(256)) * 300, "two": b"second"}
FAKE = Source(
    "mnist",
    tuple(SourceFile(name, sha256(data), len(data)) for name, data in CONTENTS.items()),
    advice="none",
    mirrors=("http://first.invalid/",),
    suffix=".gz",
)
GOOD = {f"/good/{name}.gz": zipped(data) for name, data in CONTENTS.items()}
PROXIES = [
    name
    for proxy in ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
    for name in (proxy, proxy.upper())
]


class Site(ThreadingHTTPServer):
    """Serves `pages` (path: bytes) on 127.0.0.1 and remembers what was asked for."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.pages = dict(GOOD)
        self.overstated = set()
        self.asked = []

    def url(self, folder):
        return f"http://127.0.0.1:{self.server_port}/{folder}/"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        body = self.server.pages.get(self.path)
        if body is None:
            self.send_error(404)
            return
        self.send_response(200)
        extra = 1000 if self.path in self.server.overstated else 0
        self.send_header("Content-Length", str(len(body) + extra))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def site():
    with Site() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def made_up_source(monkeypatch):
    monkeypatch.setitem(sources.SOURCES, "mnist", FAKE)
    monkeypatch.setattr(mirrors, "TIMEOUT", 5.0)
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)


def fetch(tmp_path, *sites, **keywords):
    return download("mnist", root=tmp_path, mirrors=sites, progress=False, **keywords)


def is_complete(folder):
    found = {path.name: read_bytes(path, limit=10**6) for path in folder.iterdir()}
    return found == {f"{name}.gz": data for name, data in CONTENTS.items()}


def bad(site, kind):
    """The address of a mirror that is bad in some way."""
    whole = GOOD["/good/one.gz"]
    pages = {
        "corrupt": whole[:-9] + b"x" + whole[-8:],
        "another": zipped(b"another file"),
        "page": b"<html>please log in</html>",
        "cut": whole[:-20],
        "hang-up": whole[:-20],
        "endless": bytes(mirrors.OVERHEAD + len(CONTENTS["one"]) + 1),
        "empty": b"",
    }
    if kind in pages:
        site.pages[f"/{kind}/one.gz"] = pages[kind]
    if kind == "hang-up":
        site.overstated.add("/hang-up/one.gz")
    return site.url(kind)


@pytest.mark.parametrize("proxy", [None, "http://127.0.0.1:9"])
def test_a_good_mirror(site, tmp_path, monkeypatch, proxy):
    if proxy:
        monkeypatch.setenv("http_proxy", proxy)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert fetch(tmp_path, site.url("good")) == tmp_path / "mnist"
    assert is_complete(tmp_path / "mnist")


def test_a_proxy_is_used(site, tmp_path, monkeypatch):
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{site.server_port}")
    for path, body in GOOD.items():
        site.pages[f"http://mirror.invalid{path}"] = body
    assert is_complete(fetch(tmp_path, "http://mirror.invalid/good"))


KINDS = {
    "corrupt": "damaged",
    "another": "another file (SHA-256",
    "page": "another file (SHA-256",
    "empty": "another file (SHA-256",
    "cut": "damaged",
    "hang-up": "IncompleteRead",
    "endless": "sends more bytes",
    "absent": "404",
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_bad_mirror_falls_through_to_the_next(site, tmp_path, kind):
    folder = fetch(tmp_path, bad(site, kind), site.url("good"))
    assert is_complete(folder)
    assert site.asked[:2] == [f"/{kind}/one.gz", "/good/one.gz"]


def test_when_all_fail_every_reason_is_given_and_nothing_is_left(site, tmp_path):
    addresses = [bad(site, kind) for kind in KINDS]
    with refusal("mnist: no mirror gave one.gz", *addresses, *KINDS.values(), "check the network"):
        fetch(tmp_path, *addresses)
    assert list((tmp_path / "mnist").iterdir()) == []


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:1/", "ftp://127.0.0.1/", "nonsense", "http://[/", "http://a:b:c/"]
)
def test_an_address_without_a_server_is_a_reason(tmp_path, address):
    with refusal(f"{address.rstrip('/')}/one.gz: "):
        fetch(tmp_path, address)


def test_a_reason_is_brief(site, tmp_path):
    with refusal("(http://127.0.0.1:1/one.gz: Failed to establish a new connection: [Errno"):
        fetch(tmp_path, "http://127.0.0.1:1/")
    with refusal("/absent/one.gz: 404 Client Error: Not Found): check"):
        fetch(tmp_path, site.url("absent"))


def test_no_mirror_at_all(tmp_path):
    with refusal("none was named"):
        fetch(tmp_path)


def test_what_came_before_a_failure_is_kept(site, tmp_path):
    del site.pages["/good/two.gz"]
    with refusal("no mirror gave two.gz"):
        fetch(tmp_path, site.url("good"))
    assert [path.name for path in (tmp_path / "mnist").iterdir()] == ["one.gz"]
    site.pages |= GOOD
    assert is_complete(fetch(tmp_path, site.url("good")))
    assert site.asked.count("/good/one.gz") == 1


def test_good_files_are_not_fetched_again(site, tmp_path):
    fetch(tmp_path, site.url("good"))
    site.asked.clear()
    fetch(tmp_path, site.url("good"))
    assert site.asked == []


def test_a_damaged_file_is_replaced(site, tmp_path):
    folder = fetch(tmp_path, site.url("good"))
    (folder / "one.gz").write_bytes(b"damaged")
    assert is_complete(fetch(tmp_path, site.url("good")))


def test_a_failure_leaves_an_older_file_as_it_was(site, tmp_path):
    older = tmp_path / "mnist" / "one.gz"
    older.parent.mkdir()
    older.write_bytes(b"older")
    with refusal("no mirror"):
        fetch(tmp_path, site.url("absent"))
    assert older.read_bytes() == b"older"


def test_an_interruption_leaves_nothing(site, tmp_path, monkeypatch):
    def interrupt(self, data):
        raise KeyboardInterrupt

    monkeypatch.setattr(mirrors._Capped, "write", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fetch(tmp_path, site.url("good"))
    assert list((tmp_path / "mnist").iterdir()) == []


def test_a_folder_that_cannot_be_made_is_named(site, tmp_path):
    (tmp_path / "mnist").write_text("in the way")
    with refusal(str(tmp_path / "mnist"), "cannot be written to"):
        fetch(tmp_path, site.url("good"))


def test_the_known_mirrors_are_used_by_default(site, tmp_path, monkeypatch):
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{site.server_port}")
    for path, body in GOOD.items():
        site.pages[f"http://first.invalid{path.removeprefix('/good')}"] = body
    assert is_complete(download("mnist", root=tmp_path, progress=False))


def test_without_a_root_the_named_folder_and_else_the_cache(
    site, tmp_path, monkeypatch, cache_folder
):
    good = site.url("good")
    assert download("mnist", mirrors=[good], progress=False) == cache_folder / "mnist"
    monkeypatch.setenv("SFNN_DATA", str(tmp_path / "named"))
    assert download("mnist", mirrors=[good], progress=False) == tmp_path / "named" / "mnist"


def test_a_terminal_gets_a_progress_bar(site, tmp_path, monkeypatch):
    shown = io.StringIO()
    monkeypatch.setattr(shown, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stderr", shown)
    fetch(tmp_path / "quiet", site.url("good"))
    assert shown.getvalue() == ""
    download("mnist", root=tmp_path, mirrors=[site.url("good")])
    assert shown.getvalue().count("100%") >= len(CONTENTS)
    size = len(GOOD["/good/two.gz"])
    assert f"{size:.1f}/{size:.1f}" in shown.getvalue()


def test_what_is_no_terminal_gets_no_progress_bar(site, tmp_path, capfd):
    download("mnist", root=tmp_path, mirrors=[site.url("good")])
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["digits", "imagenet", ""])
def test_what_cannot_be_downloaded(tmp_path, name):
    with refusal(repr(name), "choose one of mnist, fashion-mnist, omniglot, olivetti"):
        download(name, root=tmp_path)


def test_tfd_is_not_public(tmp_path):
    with refusal("'tfd' cannot be downloaded", "not public"):
        download("tfd", root=tmp_path)


def test_mirrors_are_https_and_checksums_whole():
    for source in (MNIST, sources.OLIVETTI):
        assert len(source.mirrors) >= 2
        assert all(
            mirror.startswith("https://") and mirror.endswith("/") for mirror in source.mirrors
        )
        assert all(len(bytes.fromhex(file.sha256)) == 32 for file in source.files)
