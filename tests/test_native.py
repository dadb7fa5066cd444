"""The passes in C++ of compiled steps, beside PyTorch's own operations."""

import pytest
import torch
from torch import Size

from sfnn_pyro.distributions import native, random_bits
from sfnn_pyro.distributions.densities import log_prob_sums
from sfnn_pyro.recording import replays

pytestmark = pytest.mark.slow

TYPES = [torch.float32, torch.bfloat16]


@pytest.fixture(autouse=True)
def _compiled():
    if replays.missing_compiler("cpu"):
        pytest.skip("needs a C++ compiler")
    torch.set_default_dtype(torch.float32)
    native.load()
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("threads", [1, 2, 3, 16])
@pytest.mark.parametrize(
    ("shape", "own"),
    [
        ((20, 100, 200), (20, 100, 200)),
        ((20, 100, 200), (100, 200)),
        ((7, 33, 41), (33, 41)),
        ((1, 9999), (1, 9999)),
        ((3, 30_001), (30_001,)),
        ((70_000,), ()),
    ],
)
def test_draws_are_those_of_random_bits(shape, own, threads, dtype):
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    logits, shape = (3 * torch.randn(own)).to(dtype), Size(shape)
    assert native.has_draw(logits, shape)
    probs = logits.float().sigmoid()
    torch.manual_seed(3)
    drawn, state = native.draw(logits, shape), torch.get_rng_state()
    torch.manual_seed(3)
    other = random_bits.draw(probs, shape, dtype)
    assert drawn.dtype == dtype and torch.equal(state, torch.get_rng_state())
    # A probability that is rounded otherwise may be on the other side of a multiple of 2**-16.
    scaled = probs.double().expand(shape)[drawn != other] * 65536
    assert ((scaled - scaled.round()).abs() < 0.02).all() and len(scaled) < 3


def test_certain_draws_are_never_contradicted():
    logits = torch.tensor([-torch.inf, torch.inf]).repeat(100)
    for shape in (Size([5000, 200]), Size([100, 200])):
        for one in (logits, logits.expand(shape).contiguous()):
            drawn = native.draw(one, shape)
            assert torch.equal(drawn, (logits > 0).float().expand(shape))
    assert not native.draw(torch.full((5000,), torch.nan), Size([5000])).any()


def test_draws_that_sixteen_bits_do_not_decide():
    """With p = 2**-20, all of them: a one in sixteen of the draws with u = 0."""
    p = torch.tensor(2.0**-20, dtype=torch.float64)
    logits = torch.full((200,), p.logit().item())
    drawn = native.draw(logits, Size([100_000, 200])).sum().item()
    mean = 2e7 * p.item()  # 19.1
    assert abs(drawn - mean) < 6 * mean**0.5


SHAPES = [
    ((20, 100, 392), (100, 392)),
    ((20, 100, 39), (20, 100, 39)),
    ((100, 39), (20, 100, 39)),
    ((3, 17), (3, 17)),
    ((5, 16), (16,)),
    ((4, 2000), (4, 2000)),
    ((9, 3), (9, 3)),
]


def layer(shape, of_value, dtype, value_dtype, gain):
    torch.manual_seed(1)
    value = torch.rand(of_value).round().to(value_dtype)
    return (gain * torch.randn(shape)).to(dtype), value


@pytest.mark.parametrize("gain", [1, 30, 1000])
@pytest.mark.parametrize("value_dtype", TYPES)
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("shape", "of_value"), SHAPES)
def test_log_probabilities_and_gradients(shape, of_value, dtype, value_dtype, gain):
    logits, value = layer(shape, of_value, dtype, value_dtype, gain)
    assert native.has_rows(logits, value)
    sums, infinite = native.log_prob(logits, value)
    exact, pull = log_prob_sums(logits.double(), value.double(), pull=True)
    assert not infinite
    torch.testing.assert_close(sums.double(), exact, rtol=2e-6, atol=2e-5)
    weight = torch.randn(exact.shape)
    tolerance = (
        {"rtol": 1e-5, "atol": 1e-6} if dtype is torch.float32 else {"rtol": 4e-3, "atol": 4e-3}
    )
    if gain == 1000:
        logits.view(-1)[0], logits.view(-1)[1] = torch.inf, -torch.inf
        pull = value.double() - logits.double().sigmoid()
    pulled = native.pull(logits, value, weight)
    assert pulled.dtype == dtype
    torch.testing.assert_close(pulled.double(), pull * weight.unsqueeze(-1), **tolerance)
    grad = torch.randn(shape).to(value_dtype)
    assert native.has_slope(grad, logits)
    slope, both = native.slope(grad, logits), logits.double()
    assert slope.dtype == dtype
    wanted = grad.double() * both.sigmoid() * (-both).sigmoid()
    torch.testing.assert_close(slope.double(), wanted, **tolerance)


def test_saturated_units_leave_no_denormal_numbers():
    logits = torch.linspace(-200, 200, 9999).repeat(2, 1)
    value = (logits > 0).to(logits.dtype)
    weight = torch.tensor([1.0, 1e-18])
    for passed in (
        native.slope(weight.unsqueeze(-1) * value, logits),
        native.pull(logits, value, weight),
    ):
        smallest = passed[passed != 0].abs().min()
        assert smallest.item() ** 2 > torch.finfo(torch.float32).tiny


def test_infinite_and_nan_logits_are_said():
    logits = torch.zeros(4, 40)
    logits[1, 3], logits[2, 39] = torch.inf, torch.nan
    value = torch.ones(4, 40)
    sums, infinite = native.log_prob(logits, value)
    assert infinite and sums.isnan().tolist() == [False, True, True, False]
    # Which the operator then leaves to PyTorch.
    sums = torch.ops.sfnn_pyro.log_prob(logits, value)
    assert sums.isnan().tolist() == [False, False, True, False]
    assert native.pull(logits, value, torch.ones(4)).isnan().sum() == 1


def test_what_does_not_fit_is_left_to_pytorch():
    x = torch.zeros(3, 40)
    assert not native.has_draw(x.double(), x.shape)
    assert not native.has_draw(x.t(), Size([40, 3]))
    assert not native.has_draw(x[:, :1], x.shape)
    assert not native.has_rows(x, x[:, :1].contiguous())
    assert not native.has_slope(x[:1], x)
