"""A browser for the tests of the page: Debian's Chromium, or another that is installed."""

import functools
import http.server
import shutil
import threading
import time
from pathlib import Path

import pytest

from tests.commands import finish, start

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
DOCS = Path(__file__).parents[2] / "docs" / "draw"


def pytest_collection_modifyitems(items):
    for item in items:
        if "browser" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def browser():
    """A headless browser; the tests that need one are skipped where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip("no Chromium is installed: 'make browser' installs it")
    with playwright.sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield found
        found.close()


class Opened:
    """A page in a browser, and what it asked for and complained about."""

    def __init__(self, browser, url: str, **options) -> None:
        self.context = browser.new_context(
            **{"viewport": {"width": 1280, "height": 900}, **options}
        )
        self.page = self.context.new_page()
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.goto(url)

    def ready(self):
        """Waits for the first picture."""
        self.until("page !== null && page.milliseconds > 0")
        return self

    def until(self, condition: str, seconds: float = 20) -> None:
        """Waits for a condition; Playwright's own way is refused by the page's security policy."""
        end = time.monotonic() + seconds
        while not self.evaluate(condition):
            assert time.monotonic() < end, condition
            self.page.wait_for_timeout(20)

    def evaluate(self, code: str, argument=None):
        return self.page.evaluate(code, argument)

    def settle(self):
        """Waits until what was done is drawn."""
        self.page.evaluate("new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")

    def stroke(self, *places):
        """Draws with the mouse through places given as (row, column) of the picture."""
        pad = self.page.locator("#pad")
        pad.scroll_into_view_if_needed()
        box = pad.bounding_box()
        rows, columns = self.evaluate("[page.pad.rows, page.pad.columns]")
        points = [
            (
                box["x"] + (column + 0.5) / columns * box["width"],
                box["y"] + (row + 0.5) / rows * box["height"],
            )
            for row, column in places
        ]
        mouse = self.page.mouse
        mouse.move(*points[0])
        mouse.down()
        for point in points[1:]:
            mouse.move(*point, steps=5)
        mouse.up()
        self.settle()

    def pictures(self) -> list[str]:
        """The twenty completions, as their canvases hold them."""
        return self.evaluate("page.canvases.map((canvas) => canvas.toDataURL())")


@pytest.fixture
def visit(browser):
    """Opens pages, and closes them after the test."""
    opened = []

    def visit(url: str, **options) -> Opened:
        opened.append(Opened(browser, url, **options))
        return opened[-1]

    yield visit
    for one in opened:
        one.context.close()


@pytest.fixture
def docs(visit) -> Opened:
    """The page of the documentation, opened from the disk."""
    return visit((DOCS / "index.html").as_uri()).ready()


@pytest.fixture(scope="session")
def recognised_folder(tmp_path_factory) -> Path:
    """The export of a run on the 8 x 8 digits with a recognition network, trained in seconds."""
    folder = tmp_path_factory.mktemp("recognised")
    run, page = folder / "run", folder / "page"
    options = ("--hidden=40,40", "--epochs=30", "--batch-size=50", "--out", run)
    for arguments in (
        ("train", "--data=digits", *options),
        ("export", run, "--recognition-epochs=100", "--out", page),
    ):
        result = finish(start(*arguments))
        assert result.code == 0, result.err
    return page


@pytest.fixture
def recognised(visit, recognised_folder) -> Opened:
    """A page with a recognition network, opened from the disk."""
    return visit((recognised_folder / "index.html").as_uri()).ready()


@pytest.fixture(params=["docs", "recognised"])
def either(request, browser) -> Opened:
    """The documentation's page, and one with a recognition network."""
    return request.getfixturevalue(request.param)


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments) -> None:
        pass


@pytest.fixture
def serve():
    """Serves folders on this machine; returns the address of each."""
    servers = []

    def serve(folder: Path) -> str:
        handler = functools.partial(_Quiet, directory=str(folder))
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        servers.append((server, thread))
        return f"http://127.0.0.1:{server.server_port}"

    yield serve
    for server, thread in servers:
        server.shutdown()
        server.server_close()
        thread.join()
