import math

import pyro
import pytest
import torch

from sfnn_pyro.bench import compare, draw, gradient_norm_by_constant, layers_of, table
from sfnn_pyro.estimators import G3, G4, G5, RLOO, VIMCO, ReweightedWakeSleep
from sfnn_pyro.guides import RecognitionNetwork
from sfnn_pyro.models import SFNN


@pytest.fixture
def problem():
    model = SFNN([2, 2, 2, 3])
    for p in model.parameters():
        torch.nn.init.normal_(p)
    return model, (torch.randn(3, 2), torch.rand(3, 3).round())


def sharp():
    """A network whose posterior is far from its prior: one particle knows nothing of it."""
    pyro.clear_param_store()
    model = SFNN([2, 2, 2, 3])
    for p in model.parameters():
        torch.nn.init.normal_(p, std=4.0)
    return model


def test_an_unbiased_estimator_shows_no_bias_and_a_biased_one_does(problem):
    model, args = problem
    rows = compare({"vimco": VIMCO(2), "g4": G4(1), "rloo": RLOO(2)}, model, args, repetitions=100)
    whole = {row.estimator: row for row in rows if row.layer == "all"}
    assert whole["vimco"].target == "objective, enumerated"
    assert whole["vimco"].bias < 2 * whole["vimco"].bias_error
    assert whole["rloo"].target == "bound, enumerated"
    assert whole["rloo"].bias < 2 * whole["rloo"].bias_error
    exact = {r.estimator: r for r in compare({"g4": G4(1)}, sharp(), args, repetitions=50)}["g4"]
    assert exact.bias > 3 * exact.bias_error
    for row in rows:
        assert row.bias_error == pytest.approx(row.deviation / math.sqrt(100))
        assert row.seconds > 0 and row.megabytes > 0


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
    """Exactly 1/M removes the mean of the weights: neither 0 nor 2 is better."""
    torch.manual_seed(3)
    model = SFNN([20, 30, 20])
    args = torch.rand(50, 20).round(), torch.rand(50, 20).round()
    factors = [0.0, 1.0, 3.0]
    norms = gradient_norm_by_constant(model, args, factors, repetitions=5)
    assert norms[1] < norms[0] and norms[1] < norms[2]


def test_table_and_picture(problem, tmp_path):
    model, args = problem
    rows = compare({"g4": G4(2), "vimco": VIMCO(2)}, model, args, repetitions=3)
    lines = table(rows).splitlines()
    assert len(lines) == 2 + 8 and all(line.count("|") == 8 for line in lines)
    figure = draw(rows, {"untrained": ([0.0, 1.0], [2.0, 1.0])})
    figure.savefig(tmp_path / "bench.png")
    assert (tmp_path / "bench.png").stat().st_size > 5000
