"""One training on two hosts: equal to one process's, whatever is cut or killed."""

import importlib.metadata
import json
import re
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from sfnn_pyro.data import digits
from sfnn_pyro.distributed import SPLITS
from tests.distributed.launch import stamp
from tests.distributed.particles import CASES, SHARDED, single
from tests.hosts.elastic import Launch, wait_for
from tests.hosts.faults import FAULTS, Clock
from tests.hosts.network import Network

OPTIONS = ("--hidden=10", "--particles=4", "--epochs=20", "--learning-rate=0.02", "--seed=7")
STEPS = 20 * 12
TIMEOUT = 6.0
"""Seconds without an answer until a rank counts as lost, in these tests."""
EVERY_STEP = ("--checkpoint-minutes=0", f"--timeout-minutes={TIMEOUT / 60}")
FILES = ("model.safetensors", "history.csv", "best.safetensors", "config.json")


@pytest.fixture(scope="module")
def undisturbed(permission, tmp_path_factory):
    """Run folders of trainings on two hosts to which nothing happened."""
    made = {}

    def of(split):
        if split not in made:
            folder = tmp_path_factory.mktemp("undisturbed")
            with Network(folder) as network:
                hosts = network.switch_on("a", "b")
                launches = [train(host, folder, f"--split={split}") for host in hosts]
                assert [launch.wait() for launch in launches] == [0, 0], launches[0].said
                assert [launch.said.count("Complete") for launch in launches] == [1, 0]
            made[split] = folder / "run"
        return made[split]

    return of


def train(host, folder, *options, **keywords):
    command = ("sfnn_pyro", "train", "--out", folder / "run", *OPTIONS, *options)
    return Launch(host, folder, *command, **keywords)


def starts(folder):
    try:
        return [start["from_step"] for start in json.loads((folder / "ranks.json").read_text())]
    except (FileNotFoundError, NotADirectoryError):
        return []


def a_step(folder, *launches, seconds=120.0):
    """Waits for a checkpoint that is not there yet."""
    before = stamp(folder / "checkpoint.pt")
    wait_for(lambda: stamp(folder / "checkpoint.pt") not in (None, before), *launches,
             seconds=seconds)  # fmt: skip


def a_start(count, folder, *launches):
    """Waits until the training began for the so-manieth time, and took a step."""
    wait_for(lambda: len(starts(folder)) == count, *launches)
    a_step(folder, *launches)


def assert_same_bytes(folder, other):
    assert not (folder / "checkpoint.pt").exists()
    for name in FILES:
        assert (folder / name).read_bytes() == (other / name).read_bytes(), name


def test_gradients_are_those_of_one_process(network, tmp_path):
    found = tmp_path / "gradients.pt"
    command = ("tests.hosts.gradients", found)
    launches = [Launch(host, tmp_path, *command) for host in network.switch_on("a", "b")]
    assert [launch.wait() for launch in launches] == [0, 0], [one.said for one in launches]
    every = torch.load(found)
    assert len(every) == 3 * len(CASES) + len(SHARDED)
    for (way, name, proposal), (loss, gradients) in every.items():
        expected_loss, expected = single(name, proposal)
        assert abs(loss - expected_loss) < 1e-10, (way, name, proposal)
        for parameter, gradient in gradients.items():
            difference = gradient - expected.get(parameter, torch.zeros(()))
            assert float(difference.abs().max()) < 1e-10, (way, name, proposal, parameter)


def test_a_cable_is_pulled(network, undisturbed, tmp_path):
    """For less than the timeout, which costs no more than that; and for more."""
    folder = tmp_path / "run"
    launches = [
        train(host, tmp_path, *EVERY_STEP, restarts=2) for host in network.switch_on("a", "b")
    ]
    a_step(folder, *launches)
    clock = Clock()
    network.pull("b")
    time.sleep(TIMEOUT / 3)
    network.plug("b")
    a_step(folder, *launches)
    FAULTS.note("torchrun", f"cable out for {TIMEOUT / 3:.0f} s", "continues", clock.seconds)
    assert starts(folder) == [0]
    clock = Clock()
    network.pull("b")
    time.sleep(2.5 * TIMEOUT)
    network.plug("b")
    a_start(2, folder, *launches)
    FAULTS.note(
        "torchrun", f"cable out for {2.5 * TIMEOUT:.0f} s, timeout {TIMEOUT:.0f} s",
        "ranks end, torchrun restarts them from the checkpoint", clock.seconds,
    )  # fmt: skip
    assert [launch.wait() for launch in launches] == [0, 0], [one.said for one in launches]
    assert "lost contact with another rank" in launches[0].said
    assert_same_bytes(folder, undisturbed("data"))


def test_hosts_are_killed_and_come_back(network, undisturbed, tmp_path):
    """First the one that joined, then the one where all meet: both commands are given again."""
    folder = tmp_path / "run"
    a, b = network.switch_on("a", "b")
    options = ("--split=particles", *EVERY_STEP)
    on_a, on_b = (train(host, tmp_path, *options, restarts=3) for host in (a, b))
    a_step(folder, on_a, on_b)
    clock = Clock()
    network.kill("b")
    (b,) = network.switch_on("b")
    on_b = train(b, tmp_path, *options, restarts=3)
    a_start(2, folder, on_a, on_b)
    FAULTS.note(
        "torchrun", "host b killed, its command given again at once",
        "the other waits for it, both resume from the checkpoint", clock.seconds,
    )  # fmt: skip
    clock = Clock()
    network.kill("a")
    assert on_b.wait() != 0
    errors = re.findall(r"\b[A-Z]\w+Error\b", on_b.said)
    assert errors, on_b.said
    FAULTS.note(
        "torchrun",
        "host a killed, where all meet",
        f"b's torchrun ends: {errors[-1]}; both commands given again complete",
        clock.seconds,
    )
    (a,) = network.switch_on("a")
    launches = [train(host, tmp_path, *options, restarts=3) for host in (a, b)]
    assert [launch.wait() for launch in launches] == [0, 0], [one.said for one in launches]
    assert_same_bytes(folder, undisturbed("particles"))
    first, second, third = starts(folder)
    assert first == 0 < second < third < STEPS


def test_a_host_that_never_comes_back(network, tmp_path):
    """An error within the timeout and the time to join; one process resumes from the checkpoint."""
    folder, join = tmp_path / "run", 10
    a, b = network.switch_on("a", "b")
    launches = [
        train(host, tmp_path, *EVERY_STEP, restarts=2, join_seconds=join) for host in (a, b)
    ]
    a_step(folder, *launches)
    clock = Clock()
    network.kill("b", silently=True)
    saved = wait_for(lambda: stamp(folder / "checkpoint.pt"))
    assert launches[0].wait() != 0
    seconds = clock.seconds
    assert TIMEOUT < seconds < TIMEOUT + join + 30, seconds  # torchrun looks now and then
    assert "lost contact with another rank" in launches[0].said
    assert "RendezvousTimeoutError" in launches[0].said
    FAULTS.note(
        "torchrun", f"host b off for ever, timeout {TIMEOUT:.0f} s, join_timeout {join} s",
        "error after so many seconds; `sfnn train --resume` on a completes", seconds,
    )  # fmt: skip
    assert (stamp(folder / "checkpoint.pt") or 0) >= saved
    resumed = a.python("-m", "sfnn_pyro", "train", "--resume", folder)
    _, err = resumed.communicate(timeout=120)
    assert resumed.returncode == 0, err
    history = (folder / "history.csv").read_text().splitlines()
    assert len(history) == 1 + STEPS // 12


def a_version(folder: Path) -> tuple[Path, Path]:
    metadata = importlib.metadata.distribution("torch")
    other = folder / "METADATA"
    other.write_text(metadata.read_text("METADATA").replace(metadata.version, "2.0.1", 1))
    return Path(str(metadata.locate_file(f"torch-{metadata.version}.dist-info/METADATA"))), other


def some_data(folder: Path) -> tuple[Path, Path]:
    path = Path(digits.__file__).resolve().with_name("digits.npz")
    with np.load(path) as arrays:
        changed = {name: np.roll(rows, 1, 0) for name, rows in arrays.items()}
    other = folder / "digits.npz"
    np.savez_compressed(other, **changed)
    return path, other


@pytest.mark.parametrize(
    "change, difference",
    [
        (a_version, "differ in the version of torch: "),
        (some_data, "differ in the training data's "),
        (None, "differ in learning_rate: 0.02 and 0.03"),
    ],
    ids=["version", "data", "options"],
)
def test_hosts_that_differ_are_refused(network, tmp_path, change, difference):
    a, b = network.switch_on("a", "b")
    options = [(), ()]
    if change is None:
        options[1] = ("--learning-rate=0.03",)
    else:
        place, other = change(tmp_path)
        b.run("mount", "--bind", other, place)  # seen by this host alone
    launches = [train(host, tmp_path, *some) for host, some in zip((a, b), options, strict=True)]
    assert 0 not in [launch.wait() for launch in launches]
    for launch in launches:
        assert "(on a) and rank 1 (on b) " + difference in launch.said, launch.said
    assert not (tmp_path / "run/config.json").exists()


def test_restarts_without_stores_of_their_own_are_refused(network, tmp_path):
    launches = [
        train(host, tmp_path, restarts=1, shared_store=True) for host in network.switch_on("a", "b")
    ]
    assert 0 not in [launch.wait() for launch in launches]
    assert "need TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1" in launches[0].said


def test_splits_are_all_tested():
    assert set(SPLITS) == {"data", "particles"}
