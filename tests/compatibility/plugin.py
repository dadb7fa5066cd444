"""A pytest plugin: Pyro's own tests with our estimators in the place of its losses.

From the root of this repository::

    python -m pytest -p tests.compatibility.plugin --rootdir CHECKOUT -c CHECKOUT/setup.cfg \
        CHECKOUT/tests/infer/test_gradient.py

``--compatibility-report FILE`` adds one line of JSON for every test.
"""

import json
import signal
from pathlib import Path

import pytest
from pyro.infer import ELBO

import tests
from tests.compatibility.replacements import PYROS, USAGE, StandIn, replace


def adopt(checkout: Path) -> None:
    """Makes ``tests`` the checkout's package: its modules import ``tests.common`` and others.

    Our own package of that name has lent the plugin; pytest would find another ``__file__``
    than it collects.
    """
    folder = checkout / "tests"
    if not (folder / "common.py").exists():
        raise pytest.UsageError(f"{checkout} is no checkout of Pyro: it has no tests/common.py")
    tests.__path__ = [str(folder)]
    tests.__file__ = str(folder / "__init__.py")


def pytest_addoption(parser):
    group = parser.getgroup("compatibility")
    group.addoption("--compatibility-report", type=Path, help="File that gets one line a test.")
    group.addoption(
        "--compatibility-particles",
        choices=["as-written", "vectorised", "sequential"],
        default="as-written",
        help="How particles run; as written is mostly one after the other, Pyro's default.",
    )
    group.addoption(
        "--compatibility-seconds", type=int, default=120, help="Longest time of a test, seconds."
    )
    group.addoption("--pyros-own", action="store_true", help="Leave Pyro's losses in place.")


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config):
    adopt(early_config.rootpath)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config):
    particles = config.getoption("--compatibility-particles")
    USAGE.vectorised = {"vectorised": True, "sequential": False}.get(particles)
    if not config.getoption("--pyros-own"):
        replace()


def pytest_collection_modifyitems(config, items):
    """Leaves out tests whose parameters ask for other losses alone: nothing of ours runs there."""
    kept = [item for item in items if not asks_for_others(item)]
    if len(kept) < len(items):
        config.hook.pytest_deselected(items=[item for item in items if asks_for_others(item)])
        items[:] = kept


def asks_for_others(item) -> bool:
    values = getattr(item, "callspec", None)
    values = [] if values is None else list(values.params.values())
    kinds = [one if isinstance(one, type) else type(one) for one in values]
    losses = [kind for kind in kinds if issubclass(kind, ELBO)]
    replaced = (StandIn, *PYROS.values())
    return bool(losses) and not any(issubclass(kind, replaced) for kind in losses)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    USAGE.reset()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    limit = item.config.getoption("--compatibility-seconds")

    def stop(*_):
        raise TimeoutError(f"longer than {limit} seconds")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(limit)
    try:
        return (yield)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    path = item.config.getoption("--compatibility-report")
    if path is not None and (report.when == "call" or report.outcome != "passed"):
        line = {
            "test": item.nodeid,
            "outcome": report.outcome,
            "expected_failure": hasattr(report, "wasxfail"),
            "used": USAGE.used,
            "seconds": round(report.duration, 2),
            "error": None if call.excinfo is None else one_line(call.excinfo),
        }
        with path.open("a") as file:
            file.write(json.dumps(line) + "\n")
    return report


def one_line(excinfo) -> str:
    """The type of an exception and the first line of its message that says something."""
    lines = [line.strip() for line in str(excinfo.value).splitlines() if line.strip()]
    return f"{excinfo.type.__name__}: {lines[0] if lines else ''}"[:400]
