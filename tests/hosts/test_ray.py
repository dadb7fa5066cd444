"""A sweep on a Ray of three hosts that share no data and no results."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.data.made_up import tfd
from tests.hosts.clusters import serve, start_sweep, wait_for_workers
from tests.hosts.faults import FAULTS, Clock
from tests.hosts.network import OWN_DISK
from tests.hosts.sweeping import NAMES

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="needs Ray (the extra 'ray')"
)
OUT = OWN_DISK / "out"


@pytest.fixture
def cluster(network, tmp_path):
    hosts = network.switch_on("c", "a", "b")
    for host in hosts:
        serve(host, tmp_path)
    wait_for_workers(hosts[0], 2)
    return network


def results(host):
    """What lies in OUT on a host, without what depends on the clock."""
    found = {}
    for name in home(host):
        result = json.loads(host.run("cat", OUT / "runs" / f"{name}.json"))
        found[name] = {
            key: value for key, value in result.items() if key not in ("seconds", "machine")
        }
    return found


def begun(host):
    """Runs of which a host has a checkpoint or a lock."""
    return host.run("sh", "-c", f"cd {OUT} && ls work 2>/dev/null || true").split()


def home(host):
    """Runs whose result lies in OUT on a host."""
    names = host.run("sh", "-c", f"ls {OUT}/runs 2>/dev/null || true").split()
    return {name.removesuffix(".json") for name in names if name.endswith(".json")}


def wait_until(condition, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """The same sweep without Ray."""
    folder = tmp_path_factory.mktemp("local")
    command = [sys.executable, "-m", "tests.hosts.sweeping", str(folder), "local"]
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(command, check=True, capture_output=True, env=one_thread)
    found = {}
    for path in (folder / "runs").glob("*.json"):
        result = json.loads(path.read_text())
        found[path.stem] = {
            key: value for key, value in result.items() if key not in ("seconds", "machine")
        }
    return found


def test_a_worker_is_lost(cluster, local):
    """Its run is made again on the other worker; every result comes home once."""
    c, a, b = (cluster.hosts[name] for name in "cab")
    sweep = start_sweep(c, OUT)
    wait_until(lambda: begun(a) and begun(b))
    (lost,) = begun(a)
    clock = Clock()
    cluster.kill("a", silently=True)
    assert lost not in home(c)
    wait_until(lambda: lost in home(c), 300)
    FAULTS.note(
        "Ray", "a worker's host off for ever",
        "its run is made again on the other; seconds until its result was home", clock.seconds,
    )  # fmt: skip
    out, err = sweep.communicate(timeout=200)
    assert sweep.returncode == 0, err
    assert sum(out.count(f": {name}\n") for name in NAMES) == len(NAMES)
    assert results(c) == local


def test_the_head_is_lost_and_the_command_with_it(cluster, local, tmp_path):
    """The same command on a new cluster makes the runs that have no result yet."""
    c = cluster.hosts["c"]
    sweep = start_sweep(c, OUT)
    wait_until(lambda: home(c), 200)
    done = home(c)
    clock = Clock()
    c.signal(sweep, signal.SIGKILL)  # the disk of the head's host is kept
    kept = {name: c.run("cat", OUT / "runs" / f"{name}.json") for name in done}
    for name in ("c", "a", "b"):
        cluster.kill(name)
    hosts = cluster.switch_on("c", "a", "b")
    c = hosts[0]
    c.run("mkdir", "-p", OUT / "runs")
    for name, text in kept.items():
        path = tmp_path / f"{name}.json"
        path.write_text(text)
        c.run("cp", path, OUT / "runs")
    for host in hosts:
        serve(host, tmp_path)
    wait_for_workers(c, 2)
    again = start_sweep(c, OUT)
    out, err = again.communicate(timeout=200)
    assert again.returncode == 0, err
    FAULTS.note(
        "Ray", "the head's host killed, a new cluster, the same command",
        "makes only what has no result yet", clock.seconds,
    )  # fmt: skip
    assert 0 < len(done) < len(NAMES)
    assert sum(out.count(f": {name}\n") for name in NAMES) == len(NAMES) - len(done)
    assert results(c) == local


def test_the_head_is_lost_where_the_command_is_on_another_host(network, tmp_path):
    """The command ends with an error, and says so."""
    c, a = network.switch_on("c", "a")
    for host in (c, a):
        serve(host, tmp_path)
    wait_for_workers(c, 1)
    sweep = start_sweep(a, OUT, "ray", "long")  # Ray itself waits for a minute
    wait_until(lambda: begun(a))
    clock = Clock()
    network.kill("c")
    _, err = sweep.communicate(timeout=240)
    assert sweep.returncode != 0
    assert "Failed to connect to GCS within 60 seconds" in err
    FAULTS.note(
        "Ray",
        "the head's host killed, the command on another",
        "the command ends: Failed to connect to GCS within 60 seconds",
        clock.seconds,
    )


def test_data_that_a_worker_lacks_or_has_elsewhere(network, tmp_path):
    person = np.repeat(np.arange(4) + 1, 10)
    images = np.random.default_rng(0).integers(0, 256, (len(person), 48, 48))
    file = tmp_path / "TFD_48x48.mat"
    file.write_bytes(tfd(images, np.ones(len(person), int), person))
    c, a = network.switch_on("c", "a")
    place, elsewhere = OWN_DISK / "data", OWN_DISK / "elsewhere"
    c.run("mkdir", place)
    c.run("cp", file, place)
    serve(c, tmp_path)
    serve(a, tmp_path, SFNN_DATA=str(elsewhere))
    wait_for_workers(c, 1)
    sweep = start_sweep(c, OUT, "ray", "faces", SFNN_DATA=str(place))
    _, err = sweep.communicate(timeout=120)
    assert sweep.returncode != 0
    last = err.strip().splitlines()[-1]
    assert "found no usable data on a (tfd: no file TFD_48x48.mat in /mnt/elsewhere" in last, err
    a.run("mkdir", elsewhere)
    a.run("cp", file, elsewhere)  # where the worker's own environment says
    again = start_sweep(c, OUT, "ray", "faces", SFNN_DATA=str(place))
    _, err = again.communicate(timeout=120)
    assert again.returncode == 0, err
    assert len(home(c)) == 1
