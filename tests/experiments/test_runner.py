import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from sfnn_pyro.data import Split
from sfnn_pyro.estimators import Compiled, Resampled
from sfnn_pyro.experiments import problems, runner
from sfnn_pyro.experiments.grid import Grid, GridError, Row, Run, load_grid
from sfnn_pyro.experiments.problems import load_data, training_data
from sfnn_pyro.experiments.report import summarise, write_report
from sfnn_pyro.experiments.results import read_results, result_path, unpack_bits
from sfnn_pyro.experiments.runner import execute
from sfnn_pyro.experiments.sweep import sweep
from sfnn_pyro.runs import RunError
from sfnn_pyro.system.stop_requests import Interrupted
from tests.data.made_up import tfd
from tests.experiments.helpers import stop_at, tiny, use_tiny_data

RUN = Run(hidden=(3, 3), stochastic=1, particles=2, epochs=3, batch_size=8, test_particles=2)
VARIANTS = [
    RUN,
    replace(RUN, network="coins", estimator="g4"),
    replace(RUN, estimator="g1"),
    replace(RUN, noise=0.4),
    replace(RUN, resample=True),
    replace(RUN, particles=3, kept=2),
    replace(RUN, estimator="g1", early_epochs=2, early_particles=3),
    replace(RUN, proposal="mixture", estimator="rws"),
    replace(RUN, data="mnist-classification", estimator="g5"),
    replace(RUN, data="olivetti", split_by_seed=True, seed=3),
]


@pytest.fixture(autouse=True)
def tiny_data(monkeypatch):
    use_tiny_data(monkeypatch)


def measured(path):
    """What a result says, but for what depends on the clock."""
    result = json.loads(path.read_text())
    assert result.pop("seconds") >= 0
    return result


def test_the_first_epochs_may_have_another_number_of_particles(tmp_path, monkeypatch):
    counts = []

    class Watched(Resampled):
        def loss_and_grads(self, *args):
            counts.append(self.num_particles)
            return super().loss_and_grads(*args)

    monkeypatch.setattr(problems, "Resampled", Watched)
    run = replace(RUN, particles=4, kept=2, early_epochs=1, early_particles=3)
    execute(run, tmp_path)
    each = len(counts) // 3
    assert counts == [3] * each + [4] * 2 * each


def test_a_run_may_compile_its_step(tmp_path, monkeypatch):
    made = []

    class Watched(Compiled):
        def __init__(self, estimator):
            super().__init__(estimator, compile=False)
            made.append(self)

    monkeypatch.setattr(problems, "Compiled", Watched)
    run = replace(RUN, particles=4, kept=2, compile=True)
    results = [measured(execute(one, tmp_path)) for one in (run, replace(run, compile=False))]
    assert [elbo.recordings for elbo in made] == [1]
    recorded, usual = (one["evaluations"]["trained"]["test"] for one in results)
    assert recorded == pytest.approx(usual, rel=1e-3)


def test_an_estimator_that_cannot_be_recorded_is_refused(tmp_path):
    with pytest.raises(GridError, match="compile of estimator='nvil': "):
        execute(replace(RUN, estimator="nvil", proposal="recognition", compile=True), tmp_path)


def test_hidden_layers_may_have_a_rate_of_their_own():
    def step(run):
        data = problems.load_data(run)
        data = replace(data, train=Split(data.train.x[:8], data.train.y[:8]))
        model = problems.make_model(run, data)
        before = [p.detach().clone() for p in model.parameters()]
        trainer = problems.make_trainer(run, model, data)
        next(trainer.run())
        return [p.detach() - b for p, b in zip(model.parameters(), before, strict=True)]

    run = replace(RUN, epochs=2, rising_epochs=1.0)  # a step each, the first at half of the rate
    usual, slower = step(run), step(replace(run, hidden_rate=0.25))
    for number, (a, b) in enumerate(zip(usual, slower, strict=True)):
        expected = a if number >= len(usual) - 2 else 0.25 * a
        torch.testing.assert_close(b, expected, atol=1e-6, rtol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("run", VARIANTS, ids=lambda run: run.name)
def test_an_interrupted_run_ends_with_the_same_result(run, tmp_path):
    whole = measured(execute(run, tmp_path / "whole"))
    for number in (1, 2, 2, 2):  # the last in the middle of the measuring
        with pytest.raises(Interrupted, match="saved and will be resumed"):
            execute(run, tmp_path / "parts", on_progress=stop_at(number))
        assert not result_path(tmp_path / "parts", run).exists()
    assert measured(execute(run, tmp_path / "parts")) == whole


def test_nothing_of_the_work_is_left_beside_the_result(tmp_path):
    path = execute(RUN, tmp_path)
    assert path.name == f"{RUN.name}.json"
    assert [one.name for one in (tmp_path / "runs").iterdir()] == [path.name]
    assert not list((tmp_path / "work").iterdir())


def test_a_result_that_is_there_is_not_made_again(tmp_path):
    before = execute(RUN, tmp_path).stat().st_mtime_ns
    assert execute(RUN, tmp_path).stat().st_mtime_ns == before


def test_a_run_that_another_process_makes_is_left_to_it(tmp_path):
    with runner.locked(tmp_path / "work" / RUN.name):
        with pytest.raises(RunError, match="in use"):
            execute(RUN, tmp_path)
        sweep([grid(RUN)], tmp_path)
    assert not read_results(tmp_path)


def test_a_training_that_becomes_infinite_has_a_result_that_says_so(tmp_path):
    run = replace(RUN, data="olivetti", learning_rate=1e30)
    found = json.loads(execute(run, tmp_path).read_text())
    assert "not finite" in found["failure"] and "evaluations" not in found
    lines = summarise(grid(run), read_results(tmp_path))
    assert (lines[0].cells()[2], lines[0].cells()[4]) == ("", "1 diverged")


def test_network_b_is_network_a_with_stochastic_units(tmp_path):
    found = json.loads(execute(replace(RUN, network="deterministic"), tmp_path).read_text())
    trained, stochastic = (found["evaluations"][name] for name in ("trained", "stochastic"))
    assert trained["test"] != stochastic["test"]


@pytest.mark.parametrize("proposal", ["recognition", "mixture"])
def test_a_learned_proposal_also_evaluates_what_it_trained(tmp_path, proposal):
    run = replace(RUN, estimator="rws", proposal=proposal, data="mnist-classification")
    found = json.loads(execute(run, tmp_path).read_text())["evaluations"]
    assert found["guide"]["test"]["negative_log_likelihood"] != pytest.approx(
        found["trained"]["test"]["negative_log_likelihood"]
    )
    assert "error_percent" not in found["guide"]["test"]  # it has seen the class


def test_a_second_evaluation_has_more_particles_and_a_tighter_bound(tmp_path):
    run = replace(RUN, more_test_particles=200)
    found = json.loads(execute(run, tmp_path).read_text())["evaluations"]
    few, many = (found[name]["test"]["negative_log_likelihood"] for name in ("trained", "more"))
    assert many < few
    again = json.loads(execute(replace(run, more_test_particles=0), tmp_path).read_text())
    assert "more" not in again["evaluations"]
    assert again["evaluations"]["trained"] == found["trained"]


def test_noise_and_images_are_new_in_every_epoch_and_the_same_for_a_seed():
    for run in (replace(RUN, noise=0.4), replace(RUN, resample=True)):
        data = load_data(run)
        first, second, again = (training_data(run, data)(epoch).x for epoch in (0, 1, 0))
        assert torch.equal(first, again) and not torch.equal(first, second)
    assert torch.equal(training_data(RUN, data)(0).x, data.train.x)


def grid(*runs, **changes):
    rows = tuple(Row(run.name, run, (run.learning_rate,), 1) for run in runs)
    return replace(Grid("g", "t", "negative_log_likelihood", "nats", rows), **changes)


def test_results_of_two_machines_merge_by_copying(tmp_path):
    other = replace(RUN, particles=3)
    here, there = tmp_path / "here", tmp_path / "there"
    sweep([grid(RUN)], here)
    sweep([grid(other)], there)
    shutil.copytree(there / "runs", here / "runs", dirs_exist_ok=True)
    assert set(read_results(here)) == {RUN.name, other.name}
    assert [line.mean is not None for line in summarise(grid(RUN, other), read_results(here))] == [
        True,
        True,
    ]


def test_a_result_under_another_name_is_refused(tmp_path):
    path = execute(RUN, tmp_path)
    path.rename(path.with_name("other.json"))
    with pytest.raises(ValueError, match=f"holds the result of {RUN.name}"):
        read_results(tmp_path)


def test_a_file_that_is_no_result_is_named(tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "a.json").write_text('{"config": {"particel": 1}}')
    with pytest.raises(ValueError, match=r"a\.json is no result .*particel"):
        read_results(tmp_path)


def test_cells_without_runs_are_empty(tmp_path):
    other = replace(RUN, particles=3)
    rows = grid(RUN, other)
    sweep([grid(RUN)], tmp_path)
    done, empty = (line.cells() for line in summarise(rows, read_results(tmp_path)))
    assert done[2] and done[4] == "1" and empty[2:6] == ("", "", "", "")
    page = write_report([rows], tmp_path)
    assert "<td></td><td></td><td></td>" in page.read_text()
    assert f"| {other.name} |  |  |  |" in page.with_suffix(".md").read_text()


def test_rows_are_compared_within_splits(tmp_path):
    def result(run, value):
        folder = tmp_path / "runs"
        folder.mkdir(exist_ok=True)
        measured = {"negative_log_likelihood": value}
        evaluations = {"trained": {"validation": measured, "test": measured}}
        made = {"machine": {"processor": "one"}, "seconds": 1.0, "probes": {}}
        text = json.dumps({"config": run.to_dict(), "evaluations": evaluations, **made})
        (folder / f"{run.name}.json").write_text(text)

    best = replace(RUN, split_by_seed=True)
    other, fixed, unrun = replace(best, particles=3), RUN, replace(best, particles=4)
    for seed, (one, two) in enumerate([(10.0, 12.0), (30.0, 33.0), (20.0, 24.0)]):
        result(replace(best, seed=seed), one)
        result(replace(other, seed=seed), two)
    result(fixed, 1.0)
    rows = grid(best, other, fixed, unrun)
    rows = replace(rows, rows=tuple(replace(row, seeds=3) for row in rows.rows))
    lines = summarise(rows, read_results(tmp_path))
    # differences 2, 3, 4: mean 3, two standard errors 2 / sqrt(3)
    assert [line.cells()[3] for line in lines] == ["0.00", "3.00 ± 1.15", "", ""]


def test_the_same_results_give_the_same_report(tmp_path):
    sweep([grid(RUN, figure="figure2")], tmp_path)
    texts = [write_report([grid(RUN, figure="figure2")], tmp_path).read_bytes() for _ in range(2)]
    assert texts[0] == texts[1]


@pytest.mark.parametrize("workers", [0, -1])
def test_refuses_no_workers(workers, tmp_path):
    with pytest.raises(ValueError, match=f"workers={workers}"):
        sweep([], tmp_path, workers=workers)


CODE = """
import sys
from pathlib import Path
from sfnn_pyro.experiments.grid import Grid, GridError, Row, Run
from sfnn_pyro.experiments.sweep import sweep
rows = tuple(
    Row(str(m), Run("digits", hidden=(20,), particles=m, epochs=40, test_particles=5), (0.1,), 1)
    for m in (1, 2, 3)
)
sweep([Grid("g", "t", "negative_log_likelihood", "nats", rows)], Path(sys.argv[1]),
      workers=int(sys.argv[2]))
"""


def start(folder, workers):
    return subprocess.Popen(
        [sys.executable, "-c", CODE, str(folder), str(workers)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
    )


@pytest.mark.slow
def test_a_killed_sweep_goes_on_where_it_stopped(tmp_path):
    process = start(tmp_path, 1)
    deadline = time.monotonic() + 100
    while not list((tmp_path / "runs").glob("*.json")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.kill()
    process.wait()
    first = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").glob("*.json")}
    assert 1 <= len(first) < 3
    assert start(tmp_path, 1).wait(200) == 0
    assert len(read_results(tmp_path)) == 3
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in first.items())


@pytest.mark.slow
def test_parallel_workers_make_the_same_results(tmp_path):
    assert start(tmp_path / "one", 1).wait(200) == 0
    assert start(tmp_path / "two", 2).wait(200) == 0
    pairs = [read_results(tmp_path / name) for name in ("one", "two")]
    assert [one["evaluations"] for one in pairs[0].values()] == [
        one["evaluations"] for one in pairs[1].values()
    ]


def test_the_toronto_faces_from_a_file_of_their_structure(tmp_path, monkeypatch):
    monkeypatch.undo()
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (40, 48, 48))
    contents = tfd(images, [0] * 40, np.repeat(np.arange(4), 10))
    (tmp_path / "TFD_48x48.mat").write_bytes(contents)
    monkeypatch.setenv("SFNN_DATA", str(tmp_path))
    row = tiny(load_grid("tfd").rows[1])
    found = json.loads(execute(row.at(0.001, 0), tmp_path).read_text())
    measured = found["evaluations"]["trained"]["test"]
    assert 0 < measured["sum_of_squares"] < 2304
    assert found["provenance"]["source"] == "TFD_48x48.mat"


def test_completions_of_a_deterministic_network_are_samples(tmp_path):
    run = replace(RUN, network="deterministic")
    stored = json.loads(execute(run, tmp_path).read_text())["completions"]["samples"]
    # (10, B, dy), at the start of learning close to coins: some thousands of them, whose mean
    # lies out of (0.2, 0.8) with a probability below 1e-100.
    samples = unpack_bits(stored)
    assert 0.2 < samples.mean() < 0.8
    assert not torch.equal(samples[0], samples[1])
