import math
import subprocess
import sys

import pytest
import torch

from sfnn_pyro import bench, training
from sfnn_pyro.bench import (
    Measurement,
    compare,
    cost_table,
    draw,
    gradient_norm_by_constant,
    layers_of,
    table,
)
from sfnn_pyro.estimators import (
    ESTIMATORS,
    G3,
    G4,
    G5,
    RLOO,
    VIMCO,
    DisARM,
    MuProp,
    ReweightedWakeSleep,
)
from sfnn_pyro.guides import RecognitionNetwork
from sfnn_pyro.models import SFNN


@pytest.fixture
def problem():
    model = SFNN([2, 2, 2, 3])
    for p in model.parameters():
        torch.nn.init.normal_(p)
    return model, (torch.randn(3, 2), torch.rand(3, 3).round())


@pytest.mark.slow
def test_an_unbiased_estimator_shows_no_bias(problem):
    """By chance alone a bias exceeds six of its errors with probability 3e-8 (t of 149)."""
    model, args = problem
    rows = compare({"vimco": VIMCO(2), "rloo": RLOO(2)}, model, args, repetitions=150)
    whole = {row.estimator: row for row in rows if row.layer == "all"}
    assert whole["vimco"].target == "objective, enumerated"
    assert whole["vimco"].bias < 6 * whole["vimco"].bias_error
    assert whole["rloo"].target == "bound, enumerated"
    assert whole["rloo"].bias < 6 * whole["rloo"].bias_error
    for row in rows:
        assert row.bias_error == pytest.approx(row.deviation / math.sqrt(150))
        assert row.seconds > 0 and row.megabytes > 0


def test_the_bias_of_one_particle_is_all_of_the_first_layers_gradient():
    """It teaches nothing about h: the expected gradient is zero. By chance as above."""
    model = SFNN([1, 1, 4])
    with torch.no_grad():
        for parameter, value in zip(model.parameters(), (0.5, 0.0, 4.0, -2.0), strict=True):
            parameter.fill_(value)
    args = torch.ones(200, 1), torch.ones(200, 4)
    first, _, _ = compare({"g4": G4(1)}, model, args, repetitions=100)
    assert (first.layer, first.target) == ("layers.0", "likelihood, enumerated")
    assert abs(first.bias - 1) < 6 * first.bias_error < 0.2
    assert first.deviation == pytest.approx(10 * first.bias_error)


def test_layers_have_their_own_rows_and_add_up(problem):
    model, args = problem
    rows = compare({"g5": G5(2)}, model, args, repetitions=5)
    assert [row.layer for row in rows] == ["layers.0", "layers.1", "layers.2", "all"]
    assert list(layers_of(model)) == ["layers.0", "layers.1", "layers.2"]


def test_long_run_where_nothing_can_be_enumerated():
    model = SFNN([2, 25, 2])
    args = torch.zeros(2, 2), torch.zeros(2, 2)
    rows = compare({"g3": G3(2), "g5": G5(2)}, model, args, repetitions=3, long_run=5)
    assert {row.target for row in rows} == {
        "objective, long run of VIMCO",
        "likelihood, long run of G5",
    }


def test_guides(problem):
    model, args = problem
    with pytest.raises(ValueError, match="rws does not take the prior"):
        compare({"rws": ReweightedWakeSleep(2)}, model, args)
    guide = RecognitionNetwork(model, width=3)
    rows = compare({"rws": ReweightedWakeSleep(2)}, model, args, guide, repetitions=2)
    assert len(rows) == 4


def test_figure_1_has_its_minimum_near_one(problem):
    """Exactly 1/M removes the mean of the weights: neither 0 nor 3 is better.

    Ratios of norms over thirty seeds: 1.15 and 1.57, of logarithms 8 and 18 standard deviations
    above zero. A false alarm is less likely than 1e-14.
    """
    torch.manual_seed(3)
    model = SFNN([20, 30, 20])
    args = torch.rand(50, 20).round(), torch.rand(50, 20).round()
    factors = [0.0, 1.0, 3.0]
    norms = gradient_norm_by_constant(model, args, factors, repetitions=10)
    assert norms[1] < norms[0] and norms[1] < norms[2]


@pytest.mark.slow
def test_the_page_is_written_with_its_picture(tmp_path, monkeypatch):
    """The program as it is, with few repetitions and a short training."""
    real, short = bench.compare, training.Schedule
    seen = []

    def few(*args, **options):
        seen.append(real(*args, repetitions=2, long_run=2))
        return seen[-1]

    monkeypatch.setattr(bench, "compare", few)
    monkeypatch.setattr(training, "Schedule", lambda epochs, **rest: short(epochs=1, **rest))
    torch.set_default_dtype(torch.float32)
    bench.main(str(tmp_path))
    page = (tmp_path / "estimator-bench.md").read_text()
    exact, costs = seen
    assert table(exact) in page
    assert cost_table([row for row in costs if row.layer == "all"]) in page
    assert {row.estimator for row in exact} == set(ESTIMATORS) - {"arms"}
    assert {row.estimator for row in costs} == set(ESTIMATORS) - {"arms", "psa"}
    assert {row.target for row in exact} == {
        f"{target}, enumerated" for target in ("objective", "likelihood", "bound")
    }
    assert (tmp_path / "estimator-bench.png").stat().st_size > 5000


def test_costs_are_in_milliseconds_and_megabytes():
    row = Measurement("g4", "all", "likelihood, enumerated", 0.1, 0.2, 3.0, 0.5, 0.0125, 7.25)
    assert cost_table([row]).splitlines()[2] == "| g4 | 0.500 | 12 | 7.2 |"


def test_further_runs_count_at_equal_cost(problem):
    model, args = problem
    kinds = {"vimco": VIMCO(2), "disarm": DisARM(2), "muprop": MuProp(2)}
    rows = {row.estimator: row for row in compare(kinds, model, args, repetitions=3)}
    passes = {name: row.passes for name, row in rows.items()}
    assert passes == {"vimco": 1, "disarm": 3, "muprop": 1.5}
    assert rows["vimco"].equal_cost_deviation == rows["vimco"].deviation
    assert rows["disarm"].equal_cost_deviation == rows["disarm"].deviation * math.sqrt(3)


@pytest.mark.slow
def test_table_and_picture(problem, tmp_path):
    model, args = problem
    rows = compare({"g4": G4(2), "vimco": VIMCO(2)}, model, args, repetitions=3)
    lines = table(rows).splitlines()
    assert len(lines) == 2 + 8 and all(line.count("|") == 9 for line in lines)
    figure = draw(rows, {"untrained": ([0.0, 1.0], [2.0, 1.0])})
    figure.savefig(tmp_path / "bench.png")
    assert (tmp_path / "bench.png").stat().st_size > 5000


@pytest.mark.slow
@pytest.mark.parametrize(("folder", "part"), [("", "is an empty path"), ("/dev/null", "no folder")])
def test_a_folder_that_cannot_be_is_one_line_before_the_bench_begins(folder, part):
    command = [sys.executable, "-m", "sfnn_pyro.bench", folder]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (ran.returncode, ran.stderr.count("\n")) == (2, 1) and part in ran.stderr
