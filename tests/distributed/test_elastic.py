"""A rank killed with SIGKILL: restarted by torchrun, and the end is that without, to the bit."""

import json
import os
import signal
import sys

import pytest

from sfnn_pyro.runs import load_model
from sfnn_pyro.system.sealed_files import read_sealed
from tests.distributed.launch import end, pid_of, stamp, torchrun, wait_for

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks for ranks in /proc")

OPTIONS = ("--hidden=10", "--particles=4", "--epochs=8", "--learning-rate=0.02", "--seed=7")
STEPS = 8 * 12


@pytest.fixture(scope="module")
def launch():
    """Starts ranks that do not outlive the tests."""
    launchers = []

    def start(*arguments, **options):
        launchers.append(torchrun(*arguments, **options))
        return launchers[-1]

    yield start
    for launcher in launchers:
        end(launcher)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, launch):
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    process = launch("train", "--out", folder, *OPTIONS)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert out.count("Complete") == 1  # rank 0 alone speaks
    return folder


@pytest.mark.slow
def test_killed_ranks_change_no_bit(undisturbed, launch, tmp_path):
    folder = tmp_path / "run"
    checkpoint = folder / "checkpoint.pt"
    process = launch("train", "--out", folder, *OPTIONS, "--checkpoint-minutes=0", restarts=2)
    for rank in (1, 0):
        before = stamp(checkpoint)
        wait_for(lambda old=before: stamp(checkpoint) != old, process)
        os.kill(wait_for(lambda rank=rank: pid_of(rank, process), process), signal.SIGKILL)
        if rank:  # its successors have taken a step
            wait_for(lambda: len(starts(folder)) == 2, process)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert out.count("Complete") == 1
    assert not checkpoint.exists()
    for name in ("model.safetensors", "history.csv", "best.safetensors", "config.json"):
        assert (folder / name).read_bytes() == (undisturbed / name).read_bytes(), name
    steps = [start["from_step"] for start in starts(folder)]
    assert len(steps) == 3 and steps[0] == 0 < steps[1] < steps[2] < STEPS
    assert len({tuple(start["seeds"]) for start in starts(folder)}) == 1


@pytest.mark.slow
def test_a_signal_to_torchrun_saves_at_one_step_and_one_process_can_go_on(launch, tmp_path):
    folder = tmp_path / "run"
    process = launch("train", "--out", folder, *OPTIONS, "--epochs=100000")
    wait_for(lambda: stamp(folder / "history.csv"), process)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert "sfnn: rank 0: stopped by SIGTERM: saved at step" in err
    trainer = read_sealed(folder / "checkpoint.pt", "checkpoint")["trainer"]
    assert len(trainer["ranks"]["moments"]) == 2
    assert len((folder / "history.csv").read_text().splitlines()) == 1 + len(trainer["history"])


def starts(folder):
    try:
        return json.loads((folder / "ranks.json").read_text())
    except FileNotFoundError:
        return []


@pytest.mark.slow
def test_records_every_start(undisturbed):
    (start,) = starts(undisturbed)
    assert (start["from_step"], start["ranks"], start["split"]) == (0, 2, "data")
    assert len(set(start["seeds"])) == 2
    load_model(undisturbed)
