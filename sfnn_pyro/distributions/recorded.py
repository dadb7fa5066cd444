"""What a recorded step does with a layer of units as a whole: draw, density, and gradients.

They are operators of PyTorch's, which a graph holds and a compiler leaves alone. Where ``native``
is there they run in C++; else they do what a step that is not recorded does.
"""

import torch
from torch import Size, Tensor

from sfnn_pyro.distributions import native, random_bits
from sfnn_pyro.distributions.densities import log_prob_sums, widened

WIDTH = 16
"""From so many units on a log-probability is an operator of its own, not arithmetic to be fused."""

LARGE = 2**16
"""From so many numbers on a gradient is one too: a compiler's arithmetic takes twice as long."""

torch.library.define(
    "sfnn_pyro::draw",
    "(Tensor logits, int[] shape) -> Tensor",
    tags=(torch.Tag.nondeterministic_seeded,),
)
torch.library.define("sfnn_pyro::log_prob", "(Tensor logits, Tensor value) -> Tensor")
torch.library.define("sfnn_pyro::pull", "(Tensor logits, Tensor value, Tensor weight) -> Tensor")
torch.library.define("sfnn_pyro::slope", "(Tensor grad, Tensor logits) -> Tensor")


@torch.library.impl("sfnn_pyro::draw", "CompositeExplicitAutograd")
def _draw(logits: Tensor, shape: list[int]) -> Tensor:
    size = Size(shape)
    if native.has_draw(logits, size):
        return native.draw(logits, size)
    probs = torch.sigmoid(widened(logits))
    return random_bits.draw(probs, size, logits.dtype)


@torch.library.register_fake("sfnn_pyro::draw")
def _draw_of_shape(logits: Tensor, shape: list[int]) -> Tensor:
    return logits.new_empty(shape)


@torch.library.impl("sfnn_pyro::log_prob", "CompositeExplicitAutograd")
def _log_prob(logits: Tensor, value: Tensor) -> Tensor:
    if native.has_rows(logits, value):
        sums, infinite = native.log_prob(logits, value)
        if not infinite:
            return sums
    return log_prob_sums(logits, value, pull=False)[0]


@torch.library.register_fake("sfnn_pyro::log_prob")
def _log_prob_of_shape(logits: Tensor, value: Tensor) -> Tensor:
    shape = torch.broadcast_shapes(logits.shape, value.shape)
    return logits.new_empty(shape[:-1], dtype=widened(logits[:0]).dtype)


@torch.library.impl("sfnn_pyro::pull", "CompositeExplicitAutograd")
def _pull(logits: Tensor, value: Tensor, weight: Tensor) -> Tensor:
    shape = torch.broadcast_shapes(logits.shape, value.shape)
    if native.has_rows(logits, value):
        return native.pull(logits, value, weight.expand(shape[:-1]).contiguous())
    pulled = (value - widened(logits).sigmoid()) * weight.unsqueeze(-1)
    return pulled.expand(shape).to(logits.dtype)


@torch.library.register_fake("sfnn_pyro::pull")
def _pull_of_shape(logits: Tensor, value: Tensor, weight: Tensor) -> Tensor:
    return logits.new_empty(torch.broadcast_shapes(logits.shape, value.shape))


@torch.library.impl("sfnn_pyro::slope", "CompositeExplicitAutograd")
def _slope(grad: Tensor, logits: Tensor) -> Tensor:
    if native.has_slope(grad, logits):
        return native.slope(grad, logits)
    probs = widened(logits).sigmoid()
    return torch.ops.aten.sigmoid_backward(grad.to(probs.dtype), probs).to(logits.dtype)


@torch.library.register_fake("sfnn_pyro::slope")
def _slope_of_shape(grad: Tensor, logits: Tensor) -> Tensor:
    return torch.empty_like(logits)


def draw(logits: Tensor, shape: Size) -> Tensor:
    """Draws 0 or 1 with the sigmoid's probabilities; from the same numbers as ``random_bits``.

    Arguments:
        logits: broadcastable to ``shape``.
        shape: shape of the draw.

    Example:
        >>> import torch
        >>> draw(torch.tensor([-torch.inf, torch.inf]), torch.Size([5000, 2])).mean(0)
        tensor([0., 1.])
    """
    if shape.numel() <= random_bits.SMALL:
        probs = torch.sigmoid(widened(logits))
        return (torch.rand(shape, dtype=torch.float32) < probs).to(logits.dtype)
    return torch.ops.sfnn_pyro.draw(logits, shape)


def log_prob(logits: Tensor, value: Tensor) -> Tensor:
    """Log-probability of binary values, in nats, summed over the last dimension.

    Arguments:
        logits: ``(..., n)``, broadcastable against ``value``.
        value: ``(..., n)`` of zeros and ones.

    Example:
        >>> import torch
        >>> log_prob(torch.zeros(2, 100), torch.ones(100)) / 100
        tensor([-0.6931, -0.6931])
    """
    n = torch.broadcast_shapes(logits.shape, value.shape)[-1]
    if logits.device.type == "cpu" and n >= WIDTH:
        return torch.ops.sfnn_pyro.log_prob(logits, value)
    return log_prob_sums(logits, value, pull=False)[0]


def pull(logits: Tensor, value: Tensor, weight: Tensor) -> Tensor:
    r"""The derivative of weighted log-probabilities to the logits, :math:`w (v - \sigma(a))`.

    Arguments:
        logits: ``(..., n)``, broadcastable against ``value``.
        value: ``(..., n)`` of zeros and ones.
        weight: broadcastable to ``(...)``.

    Example:
        >>> import torch
        >>> pull(torch.zeros(2), torch.ones(2), torch.tensor(3.0))
        tensor([1.5000, 1.5000])
    """
    shape = torch.broadcast_shapes(logits.shape, value.shape)
    fits = weight.dim() < len(shape) and weight.dtype == torch.float32
    if fits and _is_large(logits, shape):
        return torch.ops.sfnn_pyro.pull(logits, value, weight)
    return (value - widened(logits).sigmoid()) * weight.unsqueeze(-1)


def slope(grad: Tensor, logits: Tensor) -> Tensor:
    r"""A gradient times the sigmoid's derivative, :math:`g\,\sigma'(a)`.

    Arguments:
        grad: of the shape of ``logits``.
        logits: pre-activations a.

    Example:
        >>> import torch
        >>> slope(torch.tensor([1.0, 2.0]), torch.zeros(2))
        tensor([0.2500, 0.5000])
    """
    if _is_large(logits, logits.shape):
        return torch.ops.sfnn_pyro.slope(grad, logits)
    probs = widened(logits).sigmoid()
    return torch.ops.aten.sigmoid_backward(grad.to(probs.dtype), probs)


def _is_large(logits: Tensor, shape: Size) -> bool:
    single = logits.dtype in (torch.float32, torch.bfloat16)
    return single and logits.device.type == "cpu" and shape.numel() >= LARGE
