"""Weights and gradients under extremes, and the properties that hold for any numbers."""

import itertools
import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sfnn_pyro.estimators import ESTIMATORS, G3, G4, G5, VIMCO
from sfnn_pyro.evaluation import log_likelihood
from sfnn_pyro.evaluation.exact import exact_log_likelihood
from sfnn_pyro.guides import PriorProposal
from sfnn_pyro.models import SFNN
from sfnn_pyro.particles.weights import effective_sample_size, log_mean_exp, responsibilities
from tests.data.helpers import untimed
from tests.enumeration import Forced, joint_states, sfnn_log_probs

DTYPES = [torch.float64, torch.float32, torch.bfloat16]
INF = math.inf
PRIOR = sorted(set(ESTIMATORS) - {"rws"})

EXTREMES = [
    ([-1e5] * 4, -1e5, [0.25] * 4, 4),
    ([0.0, -1e4, -1e4, -1e4], -math.log(4), [1, 0, 0, 0], 1),
    ([-1e5, 0.0, -1e5, -1e5], -math.log(4), [0, 1, 0, 0], 1),
    ([1e4, -1e4, 1e4, -1e4], 1e4 - math.log(2), [0.5, 0, 0.5, 0], 2),
    ([-INF, -3.0, -INF, -3.0], -3 - math.log(2), [0, 0.5, 0, 0.5], 2),
    ([-INF, -1e5, -INF, -INF], -1e5 - math.log(4), [0, 1, 0, 0], 1),
    ([-INF] * 4, -INF, [0] * 4, 0),
    ([-7.0], -7.0, [1], 1),
    ([-INF], -INF, [0], 0),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("log_weight", "objective", "shares", "size"), EXTREMES)
def test_extreme_weights_have_their_limits(dtype, log_weight, objective, shares, size):
    log_weight = torch.tensor(log_weight, dtype=dtype)
    rel = 4 * torch.finfo(dtype).eps
    assert log_mean_exp(log_weight).item() == pytest.approx(objective, rel=rel)
    assert responsibilities(log_weight).tolist() == pytest.approx(shares, rel=rel)
    assert effective_sample_size(log_weight).item() == pytest.approx(size, rel=4 * rel)


@pytest.mark.parametrize("dtype", DTYPES)
def test_no_product_of_two_responsibilities_is_denormal(dtype):
    tiny = torch.finfo(dtype).tiny
    shares = responsibilities(torch.linspace(0, math.log(tiny), 200, dtype=dtype))
    assert (shares == 0).any()
    assert (shares[shares > 0].square() >= tiny).all()
    assert (shares > 0)[: 200 // 3].all()


def test_responsibilities_are_constants():
    log_weight = torch.zeros(3, 2, requires_grad=True)
    assert not responsibilities(log_weight).requires_grad
    assert log_mean_exp(log_weight).requires_grad


def network(first, second, bias=0.0):
    """One input of 1, two hidden units, two outputs, with these weights everywhere."""
    model = SFNN([1, 2, 2])
    with torch.no_grad():
        for layer, weight in zip(model.layers, (first, second), strict=True):
            layer.weight.fill_(weight)
            layer.bias.fill_(bias)
    return model


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", PRIOR)
@pytest.mark.parametrize(
    ("first", "second"),
    [(1e4, 1e4), (-1e4, 1e4), (1e4, -1e4), (-1e4, -1e4), (0, 1e4), (0, -1e4), (1e30, -1e30)],
)
def test_saturated_units_give_finite_gradients(dtype, name, first, second):
    """Probabilities of exactly 0 and 1, right and wrong about y."""
    torch.set_default_dtype(dtype)
    model = network(float(first), float(second))
    x, y = torch.ones(3, 1), torch.tensor([[0.0, 0], [0, 1], [1, 1]])
    loss = ESTIMATORS[name](num_particles=4).loss_and_grads(model, PriorProposal(model), x, y)
    assert math.isfinite(loss)
    for parameter in model.parameters():
        assert parameter.grad.isfinite().all()
    assert not log_likelihood(model, x, y, num_particles=3).isnan().any()


@pytest.mark.parametrize("estimator", [G4, G5, VIMCO])
def test_particles_of_no_weight_leave_the_gradient_finite(estimator):
    """Weights of exactly zero: log-probabilities of -inf, which no coefficient may touch."""
    a = torch.zeros(1, requires_grad=True)

    def model(x, y=None):
        with pyro.plate("data", len(x), dim=-1):
            h = pyro.sample("h", dist.Bernoulli(logits=a.expand(len(x), 1)).to_event(1))
            table = torch.tensor([[0.0, -INF], [-INF, 0.0]])
            logits = table[h[..., 0].long()]
            pyro.sample("y", dist.Delta(logits[..., 1] * 0 + 1, log_density=logits[..., 1]), obs=y)

    x, y = torch.ones(3, 1), torch.ones(3)
    loss = estimator(1000).differentiable_loss(model, PriorProposal(model), x, y)
    loss.backward()
    # Half the particles have no weight: the standard error is sqrt(3 / 1000) = 0.055, and a false
    # alarm less likely than 1e-60.
    assert loss.item() == pytest.approx(3 * math.log(2), abs=1)
    assert a.grad.isfinite().all() and a.grad < 0


def test_where_every_weight_is_zero_the_loss_says_so_and_no_nan_is_made():
    weights = torch.full((4, 3), -INF)
    for name in PRIOR:
        coefficients = ESTIMATORS[name](num_particles=4).coefficients(weights)
        for value in (coefficients.observed, coefficients.latent, coefficients.proposal):
            assert value is None or not value.isnan().any(), name


log_weights = st.lists(
    st.lists(st.floats(-1e6, 1e6) | st.just(-INF), min_size=3, max_size=3), min_size=1, max_size=6
).map(torch.tensor)


@untimed
@given(log_weights, st.randoms(use_true_random=False))
def test_permuting_particles_changes_nothing(log_weight, random):
    log_weight = log_weight.double()
    order = list(range(len(log_weight)))
    random.shuffle(order)
    assert torch.allclose(log_mean_exp(log_weight[order]), log_mean_exp(log_weight), rtol=1e-14)
    shares = responsibilities(log_weight)
    assert torch.allclose(responsibilities(log_weight[order]), shares[order], rtol=1e-13)


@untimed
@given(log_weights, st.integers(2, 4))
def test_duplicating_every_particle_changes_nothing(log_weight, times):
    log_weight = log_weight.double()
    repeated = log_weight.repeat(times, 1)
    assert torch.allclose(log_mean_exp(repeated), log_mean_exp(log_weight), rtol=1e-12, atol=1e-12)
    shares = responsibilities(log_weight)
    assert torch.allclose(responsibilities(repeated) * times, shares.repeat(times, 1), rtol=1e-12)


@untimed
@given(log_weights, st.floats(-1e3, 1e3))
def test_normalised_weights_sum_to_one_and_know_no_common_factor(log_weight, shift):
    log_weight = log_weight.double()
    shares = responsibilities(log_weight)
    alive = (log_weight > -INF).any(0)
    assert torch.allclose(shares.sum(0), alive.double(), atol=1e-12)
    size = effective_sample_size(log_weight)
    assert ((size >= 1 - 1e-9) & (size <= len(log_weight) + 1e-9) | ~alive).all()
    moved = log_mean_exp(log_weight + shift)
    assert torch.allclose(moved, log_mean_exp(log_weight) + shift, rtol=1e-12, atol=1e-9)


def forced_gradient(estimator, model, x, y, h):
    model.zero_grad()
    estimator.max_plate_nesting = 1
    with Forced({"h1": h}):
        loss = estimator.loss_and_grads(model, PriorProposal(model), x, y)
    return loss, torch.cat([p.grad.flatten() for p in model.parameters()])


problems = st.tuples(st.integers(1, 5), st.integers(1, 6), st.integers(0, 2**31))


def problem(num_particles, batch_size, seed):
    torch.manual_seed(seed)
    pyro.clear_param_store()
    model = SFNN([2, 3, 2])
    x, y = torch.randn(batch_size, 2), torch.rand(batch_size, 2).round()
    return model, x, y, torch.rand(num_particles, batch_size, 3).round()


def close(a, b):
    return a[0] == pytest.approx(b[0], rel=1e-11, abs=1e-12) and torch.allclose(
        a[1], b[1], rtol=1e-10, atol=1e-12
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", [G3, G4, G5])
@untimed
@given(problems)
def test_gradients_are_those_of_a_set_of_particles_and_datapoints(kind, numbers):
    """Permuted or split, they are the same; with every particle twice, too."""
    model, x, y, h = problem(*numbers)
    m, b = h.shape[:2]
    whole = forced_gradient(kind(m), model, x, y, h)
    order = torch.randperm(b)
    assert close(whole, forced_gradient(kind(m), model, x[order], y[order], h[:, order]))
    assert close(whole, forced_gradient(kind(m), model, x, y, h[torch.randperm(m)]))
    assert close(whole, forced_gradient(kind(2 * m), model, x, y, h.repeat(2, 1, 1)))
    cut = b // 2
    parts = [
        forced_gradient(kind(m), model, x[part], y[part], h[:, part])
        for part in (slice(0, cut), slice(cut, b))
        if len(x[part])
    ]
    total = sum(loss for loss, _ in parts), sum(gradient for _, gradient in parts)
    assert close(whole, total)


@pytest.mark.parametrize("seed", range(5))
def test_the_objective_grows_with_the_number_of_particles_and_never_above_the_likelihood(seed):
    """E[Chat_M] by enumeration of every tuple: nondecreasing in M, at most log P(y|x)."""
    torch.manual_seed(seed)
    model = SFNN([2, 2, 3])
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=2)
    x, y = torch.randn(1, 2), torch.rand(1, 3).round()
    pairs = [sfnn_log_probs(model, x, y, h) for h in joint_states({"h1": 2})]
    log_y, log_h = (torch.cat(column).detach() for column in zip(*pairs, strict=True))
    expected = []
    for m in range(1, 6):
        chosen = torch.tensor(list(itertools.product(range(len(pairs)), repeat=m)))
        chances = log_h[chosen].sum(1).exp()
        expected.append((chances * log_mean_exp(log_y[chosen].T)).sum().item())
    assert all(b >= a - 1e-12 for a, b in itertools.pairwise(expected))
    assert expected[-1] <= exact_log_likelihood(model, x, y).item() + 1e-12
