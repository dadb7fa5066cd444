"""Runs made together: which, what is written, and what a signal or an infinity leaves."""

import json
from dataclasses import replace

import pytest

from sfnn_pyro.experiments import replica_runs
from sfnn_pyro.experiments.grid import Grid, Row, Run
from sfnn_pyro.experiments.local import grouped, make
from sfnn_pyro.experiments.replica_runs import alike, execute_alike
from sfnn_pyro.experiments.results import read_results, result_path
from sfnn_pyro.experiments.runner import execute
from sfnn_pyro.experiments.sweep import sweep
from sfnn_pyro.runs import RunError, locked
from sfnn_pyro.system.stop_requests import Interrupted
from sfnn_pyro.training import NonFiniteError
from tests.experiments.helpers import stop_at, use_tiny_data

RUN = Run(hidden=(3, 3), particles=1, epochs=3, batch_size=8, test_particles=2)
OTHERS = [replace(RUN, seed=1), replace(RUN, learning_rate=0.3)]
UNLIKE = [
    replace(RUN, particles=2),
    replace(RUN, hidden=(3, 4)),
    replace(RUN, network="deterministic"),
    replace(RUN, data="mnist-classification"),
]
ALONE = [
    replace(RUN, network="hybrid", estimator="g4"),
    replace(RUN, compile=True),
    replace(RUN, noise=0.4),
    replace(RUN, resample=True),
    replace(RUN, estimator="g1"),
    replace(RUN, weight_decay=1e-4),
    replace(RUN, hidden_rate=0.5),
    replace(RUN, early_epochs=1, early_particles=2),
    replace(RUN, split_by_seed=True),
    replace(RUN, proposal="recognition", estimator="rws"),
]


@pytest.fixture(autouse=True)
def tiny_data(monkeypatch):
    use_tiny_data(monkeypatch)


def test_alike_are_runs_that_differ_in_seed_and_rate(tmp_path):
    assert alike(RUN, [*UNLIKE, *OTHERS, RUN], tmp_path) == [RUN, *OTHERS]
    several = replace(RUN, particles=20)
    mates = [replace(several, seed=1)]
    assert alike(several, mates, tmp_path) == [several]  # on a CPU nothing is gained
    assert alike(several, mates, tmp_path, "cuda") == [several, *mates]
    many = [replace(RUN, seed=seed) for seed in range(30)]
    assert len(alike(many[0], many, tmp_path)) == replica_runs.MAX_REPLICAS


@pytest.mark.parametrize("run", ALONE, ids=lambda run: run.name)
def test_some_runs_are_made_alone(run, tmp_path):
    assert alike(run, [replace(run, seed=1)], tmp_path) == [run]


def test_a_run_that_has_begun_goes_on_alone(tmp_path):
    begun = tmp_path / "work" / OTHERS[0].name
    begun.mkdir(parents=True)
    (begun / "checkpoint.pt").touch()
    assert alike(RUN, OTHERS, tmp_path) == [RUN, OTHERS[1]]
    assert alike(OTHERS[0], [RUN], tmp_path) == [OTHERS[0]]


@pytest.mark.parametrize("network", ["sfnn", "deterministic"])
def test_every_run_has_a_result_of_its_own(network, tmp_path):
    runs = [replace(run, network=network) for run in (RUN, *OTHERS)]
    execute_alike(runs, tmp_path)
    assert not list((tmp_path / "work").iterdir())
    found = read_results(tmp_path)
    assert set(found) == {run.name for run in runs}
    alone = json.loads(execute(runs[0], tmp_path / "alone").read_text())
    for run in runs:
        result = found[run.name]
        pictures = set() if run.seed == 0 else {"particles", "completions"}
        assert set(result) - {"replicas"} == set(alone) - pictures
        assert result["replicas"] == 3
        assert set(result["evaluations"]) == set(alone["evaluations"])
        assert [row[0] for row in result["history"]["rows"]] == [1, 2, 3]
        for row, other in zip(result["history"]["rows"], alone["history"]["rows"], strict=True):
            scale = run.learning_rate / runs[0].learning_rate
            assert row[1] == pytest.approx(scale * other[1], abs=1e-4)
            assert row[2] is None
    if network == "deterministic":  # nothing is drawn in training: the same run
        for ours, single in zip(
            found[runs[0].name]["history"]["rows"], alone["history"]["rows"], strict=True
        ):
            assert ours[3] == pytest.approx(single[3], rel=1e-4)


def test_interrupted_replicas_end_with_the_same_results(tmp_path):
    runs = [RUN, *OTHERS]
    execute_alike(runs, tmp_path / "whole")
    for number in (1, 2, 2, 2):
        with pytest.raises(Interrupted, match="and its replicas are saved and will be resumed"):
            execute_alike(runs, tmp_path / "parts", on_progress=stop_at(number))
    # A result copied from elsewhere meanwhile is kept, its replicas go on.
    copied = result_path(tmp_path / "parts", OTHERS[0])
    copied.parent.mkdir(parents=True, exist_ok=True)
    copied.write_bytes(result_path(tmp_path / "whole", OTHERS[0]).read_bytes())
    execute_alike([RUN, OTHERS[1]], tmp_path / "parts")
    results = [read_results(tmp_path / name) for name in ("whole", "parts")]
    for one in results:
        for result in one.values():
            result.pop("seconds")
    assert results[0] == results[1]


def test_an_infinity_is_one_run_s_alone(tmp_path, monkeypatch):
    def fail(self, *args):
        raise NonFiniteError("the objective is nan at step 1 in one of 3 replicas", {})

    monkeypatch.setattr(replica_runs.ReplicaTrainer, "compute_gradients", fail)
    execute_alike([RUN, *OTHERS], tmp_path)
    found = read_results(tmp_path)
    assert len(found) == 3
    assert all("replicas" not in result and "evaluations" in result for result in found.values())
    assert not list((tmp_path / "work").iterdir())


def test_a_run_that_another_process_makes_is_refused(tmp_path):
    with (
        locked(tmp_path / "work" / OTHERS[1].name),
        pytest.raises(RunError, match="in use by another process"),
    ):
        execute_alike([RUN, *OTHERS], tmp_path)


def test_a_sweep_makes_replicas_where_it_pays(tmp_path):
    row = Row("M = 1", RUN, rates=(0.1, 0.3), seeds=3)
    sweep([Grid("g", "t", "negative_log_likelihood", "nats", (row,))], tmp_path)
    found = read_results(tmp_path).values()
    assert len(found) >= 4  # at least the rates of seed 0, and the other seeds of the best one
    assert all(result["replicas"] >= 2 for result in found if result["config"]["seed"])


def test_groups_keep_the_order_and_lose_nothing(tmp_path):
    runs = [RUN, *UNLIKE, *OTHERS]
    assert grouped(runs, tmp_path, "cpu") == [[RUN, *OTHERS], *([run] for run in UNLIKE)]


def test_the_others_need_not_wait_for_a_run_that_is_being_made(tmp_path):
    with locked(tmp_path / "work" / OTHERS[1].name):
        made = make([RUN, *OTHERS], tmp_path, "cpu", lambda done, note: None)
    assert made == [(RUN, False), (OTHERS[0], False), (OTHERS[1], True)]
