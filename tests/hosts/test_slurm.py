"""The page's scripts on a real Slurm of two nodes: requeued, out of time, and as an array."""

import importlib.util
import json
import time

import pytest

from sfnn_pyro.experiments.results import read_results
from tests.distributed import sweeping
from tests.hosts.faults import FAULTS, Clock
from tests.hosts.slurm import Slurm, script, why_not
from tests.hosts.sweeping import NAMES

SIZES = (
    ("--nodes=4", "--nodes=2"),
    ("--nnodes=4", "--nnodes=2"),
    ("--nodes=3 --ntasks=3", "--nodes=1 --ntasks=1"),
    ("--cpus-per-task=16", "--cpus-per-task=1"),
    ("--nproc-per-node=16", "--nproc-per-node=1"),
)
"""The page has four nodes of 16 cores, we two of one."""

TRAINING = "--data mnist --estimator g5 --particles 1024 --batch-size 6400 --out RUN"
SMALL = "--hidden=10 --particles=4 --learning-rate=0.02 --checkpoint-minutes=0"


@pytest.fixture
def slurm(network, tmp_path):
    if reason := why_not():
        pytest.skip(reason)
    network.switch_on("c", "a", "b")
    made = Slurm(network, tmp_path)
    made.wait_for_nodes()
    return made


def small(beginning, *changes):
    """A script of the page with our sizes and other changes, each of which it must know."""
    text = script(beginning)
    for old, new in SIZES:
        text = text.replace(old, new)
    for old, new in changes:
        assert old in text, (old, text)
        text = text.replace(old, new)
    return text


def training(folder, epochs):
    options = f"{SMALL} --epochs={epochs} --timeout-minutes=0.2 --out {folder}"
    return small("srun torchrun", (TRAINING, options))


def starts(folder):
    try:
        return [start["from_step"] for start in json.loads((folder / "ranks.json").read_text())]
    except FileNotFoundError:
        return []


def wait_until(condition, slurm, seconds=180):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, slurm.said()
        time.sleep(0.1)


def test_a_training_whose_node_is_killed_is_requeued_and_resumes(slurm, tmp_path):
    run = tmp_path / "run"
    job = slurm.submit(training(run, 40), "train")
    wait_until(lambda: (run / "checkpoint.pt").exists(), slurm)
    clock = Clock()
    slurm.network.kill("b", silently=True)
    slurm.wait_for(job, "PENDING")
    noticed = clock.seconds
    slurm.network.switch_on("b")
    slurm.serve("b")
    wait_until(lambda: len(starts(run)) == 2, slurm)
    FAULTS.note(
        "Slurm",
        "a node off, and back when Slurm had noticed (SlurmdTimeout 10 s)",
        f"noticed after {noticed:.0f} s, requeued, resumed from the checkpoint",
        clock.seconds,
    )
    assert slurm.wait_for(job, "COMPLETED", "FAILED") == "COMPLETED", slurm.said()
    assert (run / "model.safetensors").exists() and 0 < starts(run)[1] < 40 * 12
    assert len((run / "history.csv").read_text().splitlines()) == 1 + 40


def test_a_training_out_of_time_is_saved_and_resumes_when_submitted_again(slurm, tmp_path):
    run = tmp_path / "run"
    text = training(run, 100_000)
    job = slurm.submit(text, "train", "--time=1")
    wait_until(lambda: (run / "history.csv").exists(), slurm)
    assert slurm.wait_for(job, "TIMEOUT", "FAILED", "COMPLETED") == "TIMEOUT"
    clock = Clock()
    wait_until(lambda: "stopped by SIGTERM: saved at step" in slurm.output("train"), slurm, 40)
    step = int(slurm.output("train").partition("saved at step ")[2].split()[0].strip(";:,."))
    again = slurm.submit(text, "again", "--time=2")
    wait_until(lambda: len(starts(run)) == 2, slurm)
    FAULTS.note(
        "Slurm",
        "time limit of a minute reached",
        "SIGTERM saves, the script submitted again resumes from that step",
        clock.seconds,
    )
    assert starts(run) == [0, step]
    slurm.call("scancel", again)
    slurm.wait_for(again, "CANCELLED", "COMPLETED", "FAILED")


def test_an_array_makes_a_grid_with_each_result_once(slurm, tmp_path):
    out = tmp_path / "out"
    text = small(
        "--array=0-7",
        ("--array=0-7", "--array=0-1"),
        (
            "sfnn reproduce table1 --out OUT --workers 1",
            f"python -m tests.distributed.sweeping {out} local",
        ),
    )
    job = slurm.submit(text, "grid", "--export=ALL")
    wait_until(lambda: slurm.finished(job), slurm)
    assert set(read_results(out)) == sweeping.NAMES, slurm.said()
    said = slurm.output("grid")
    made = [line for line in said.splitlines() if ": digits" in line and "left to" not in line]
    assert len(made) == len(sweeping.NAMES), said


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs Ray (the extra 'ray')")
def test_a_sweep_on_ray(slurm, tmp_path):
    out = tmp_path / "out"
    text = small(
        "ray start",
        ("sleep 20", "sleep 12"),
        (
            'sfnn reproduce table1 --out OUT --engine ray --address "$head:6379" --cores 2',
            f"python -m tests.hosts.sweeping {out}",
        ),
    )
    job = slurm.submit(text, "ray")
    assert slurm.wait_for(job, "COMPLETED", "FAILED") == "COMPLETED", slurm.said()
    assert set(read_results(out)) == NAMES
