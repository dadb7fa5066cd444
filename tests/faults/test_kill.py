"""SIGKILL at random moments: the end is that of an undisturbed run, to the bit."""

import random
import time

import pytest

from sfnn_pyro.system.sealed_files import SealError, read_sealed
from tests.faults.children import child, run_to_end

KILLS = 20
OPTIONS = ("--hidden=5", "--particles=2", "--epochs=25", "--learning-rate=0.02", "--seed=7")
AVERAGED = (
    "--estimator=rws",
    "--encoder=4",
    "--optimizer=adam",
    "--ema=0.9",
    "--binarise=epoch",
    "--patience=24",
)
PATIENCE = 60.0


def wait(process, condition):
    """Until the condition holds; the process must not end before."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert process.is_alive() and time.monotonic() < end, "the run ended before all kills"
        time.sleep(0.0005)


def stamp(path):
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return None


def writing(folder):
    return any(folder.glob(".checkpoint.pt.*"))


@pytest.mark.slow
@pytest.mark.parametrize("more", [("--estimator=g1",), ("--estimator=g3",), AVERAGED])
def test_twenty_kills_change_no_bit(tmp_path, more):
    options = (*OPTIONS, *more)
    undisturbed, folder = tmp_path / "undisturbed", tmp_path / "run"
    assert run_to_end("train", "--out", undisturbed, *options) == 0
    moments = random.Random(20150507)
    during_writing = 0
    checkpoint = folder / "checkpoint.pt"
    for kill in range(KILLS):
        begun = (folder / "config.json").exists()
        target = ("--resume", folder) if begun else ("--out", folder, *options)
        before = stamp(checkpoint)
        process = child("train", *target, "--checkpoint-minutes=0")
        if kill % 5:  # every fifth dies at a moment that may lie before its first step
            wait(process, lambda old=before: stamp(checkpoint) != old)
        time.sleep(moments.uniform(0, 0.05))
        if kill % 2:
            wait(process, lambda: writing(folder))
        assert process.is_alive()
        process.kill()
        process.join()
        during_writing += writing(folder)
        assert not (folder / "model.safetensors").exists()
        try:
            read_sealed(checkpoint, "checkpoint")
        except SealError:
            assert stamp(checkpoint) is None, "a checkpoint that is not whole"
    assert during_writing >= KILLS // 4
    assert run_to_end("train", "--resume", folder) == 0
    for name in ("model.safetensors", "best.safetensors", "history.csv", "config.json"):
        assert (folder / name).read_bytes() == (undisturbed / name).read_bytes(), name
    assert {path.name for path in folder.iterdir()} == {path.name for path in undisturbed.iterdir()}
