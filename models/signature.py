"""What all networks of x and y have in common: sizes, likelihood, arguments, plate, output."""

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.infer.util import is_validation_enabled
from pyro.nn.module import to_pyro_module_
from torch import Tensor

from sfnn_pyro.system.arguments import check_tensor
from sfnn_pyro.system.memory import check_memory
from sfnn_pyro.system.numbers import check_whole, shown

OUTPUT = {"is_output": True}
"""Says of a site that it is no hidden layer, also when nothing is observed there."""

MAX_WIDTH = 2**40

LIKELIHOODS = ("bernoulli", "categorical", "gaussian")


@dataclass(frozen=True)
class Signature:
    """The widths of a network and the distribution of its output.

    Arguments:
        sizes: widths from input to output, at least three.
        likelihood: ``"bernoulli"``, ``"categorical"`` or ``"gaussian"``.
        data_size: N, when a call sees a minibatch of a larger data set.

    Raises:
        ValueError: sizes or likelihood are not of this form.

    Example:
        >>> Signature((4, 3, 2)).output(torch.zeros(5, 2)).batch_shape
        torch.Size([5])
    """

    sizes: Sequence[int]
    likelihood: str = "bernoulli"
    data_size: int | None = None

    def __post_init__(self) -> None:
        check_sizes(self.sizes)
        if self.likelihood not in LIKELIHOODS:
            raise ValueError(
                f"likelihood={self.likelihood!r}: choose one of {', '.join(LIKELIHOODS)}"
            )
        if self.data_size is not None:
            check_whole("data_size", self.data_size, 1, MAX_WIDTH)

    def plate(self, batch_size: int) -> Any:
        """The plate of the datapoints, see ``data_plate``."""
        return data_plate(batch_size, self.data_size)

    def output(self, o: Tensor) -> dist.Distribution:
        """The distribution of y, from the pre-activations of the output layer ``(..., n_out)``."""
        if self.likelihood == "categorical":
            return dist.Categorical(logits=o, validate_args=False)
        if self.likelihood == "gaussian":
            return dist.Normal(o, 1.0, validate_args=False).to_event(1)
        fn = dist.Bernoulli(logits=o, validate_args=False)
        # The logits of all particles need no look, the observed values do.
        fn._validate_args = is_validation_enabled()
        return fn.to_event(1)

    def check(self, x: Tensor, y: Tensor | None, parameter: Tensor) -> None:
        """Refuses arguments that do not fit the network.

        Arguments:
            x: ``(B, n_0)``.
            y: ``(B, n_out)``, for a categorical likelihood ``(B,)`` of integers; or None.
            parameter: of the network, for its dtype and device.
        """
        check_tensor("x", x)
        if x.dim() != 2 or x.shape[1] != self.sizes[0] or not len(x):
            raise ValueError(
                f"x has shape {tuple(x.shape)}, expected (B, {self.sizes[0]}) with B at least 1"
            )
        _check_kind("x", x, parameter)
        if y is None:
            return
        check_tensor("y", y)
        expected = (
            (x.shape[0],) if self.likelihood == "categorical" else (x.shape[0], self.sizes[-1])
        )
        if tuple(y.shape) != expected:
            pairs = ""
            if y.dim() and len(y) != len(x):
                pairs = f": x has {len(x)} rows, give each of them one row of y"
            raise ValueError(f"y has shape {tuple(y.shape)}, expected {expected}{pairs}")
        if self.likelihood == "categorical":
            _check_labels(y, self.sizes[-1], parameter.device)
        else:
            _check_kind("y", y, parameter)


def data_plate(batch_size: int, data_size: int | None = None) -> Any:
    """The plate of the datapoints of a model or guide, with scale N/B where N is known.

    Arguments:
        batch_size: B, how many datapoints the call sees.
        data_size: N, when they are a minibatch of a larger data set.

    Raises:
        ValueError: the minibatch is larger than the data set.

    Example:
        >>> data_plate(5, 20).size
        20
    """
    if data_size is None:
        return pyro.plate("data", batch_size, dim=-1)
    if data_size < batch_size:
        raise ValueError(f"a minibatch of {batch_size} is larger than data_size={data_size}")
    return pyro.plate("data", data_size, subsample=torch.arange(batch_size), dim=-1)


def check_sizes(sizes: Sequence[int], *more: Any) -> list[int]:
    """The widths of a network from input to output, as whole numbers.

    Arguments:
        sizes: the widths.
        more: what was given after the likelihood, where nothing belongs: widths that are no list.

    Raises:
        ValueError: they are no list of at least three whole numbers, one is out of range, or the
            weights do not fit the memory.

    Example:
        >>> check_sizes((4, 3, 2))
        [4, 3, 2]
    """
    advice = (
        "give an input width (0 or more), at least one hidden width and an output width (1 or "
        "more), such as [392, 200, 200, 392]"
    )
    if more:
        words = ", ".join(map(shown, (sizes, *more)))
        raise ValueError(f"sizes={words}: give the widths as one list, [{words}]")
    if isinstance(sizes, str) or not isinstance(sizes, Iterable):
        raise ValueError(f"sizes={shown(sizes)}: {advice}")
    widths = list(sizes)
    for width in widths:
        check_whole("sizes: the width", width, None, MAX_WIDTH)
    widths = [int(width) for width in widths]
    if len(widths) < 3 or widths[0] < 0 or min(widths[1:]) < 1:
        raise ValueError(f"sizes={shown(widths)}: {advice}")
    weights = sum(n_in * n_out for n_in, n_out in itertools.pairwise(widths))
    check_memory(4 * weights, f"sizes={shown(widths)}", "give smaller widths")
    return widths


def linear_layer(
    n_in: int, n_out: int, fan_in: int | None = None, *, bias: bool = True
) -> torch.nn.Module:
    """A layer, or a part of one with ``fan_in`` inputs in all, initialised as ``SFNN`` says."""
    layer = torch.nn.Linear(max(n_in, 1), n_out, bias=bias)
    layer.in_features = n_in
    bound = math.sqrt(3 / max(n_in if fan_in is None else fan_in, 1))
    layer.weight = torch.nn.Parameter(torch.empty(n_out, n_in).uniform_(-bound, bound))
    if bias:
        torch.nn.init.zeros_(layer.bias)
    to_pyro_module_(layer)
    return layer


def _check_kind(name: str, value: Tensor, own: Tensor) -> None:
    """Refuses what PyTorch would refuse further down, or spread as NaN."""
    cast = torch.is_autocast_enabled(own.device.type) and value.is_floating_point()
    if value.device != own.device or (value.dtype != own.dtype and not cast):
        raise ValueError(
            f"{name} is {value.dtype} on {value.device}, the model {own.dtype} on "
            f"{own.device}: convert it with {name}.to(device, dtype)"
        )


def _check_labels(y: Tensor, classes: int, device: torch.device) -> None:
    if y.dtype != torch.int64 or y.device != device:
        raise ValueError(
            f"y is {y.dtype} on {y.device}, expected labels, torch.int64, on the model's {device}"
        )
    if is_validation_enabled() and not ((y >= 0) & (y < classes)).all():
        raise ValueError(
            f"y holds labels from {int(y.min())} to {int(y.max())}, the model has "
            f"{classes} classes, 0 to {classes - 1}"
        )
