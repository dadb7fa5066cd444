"""An exponential moving average of the parameters of a training."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from sfnn_pyro.system.numbers import check_real
from sfnn_pyro.training.stored_state import StateError, stored_tensor


class MovingAverage:
    r"""The moving average of some parameters, after every step

    .. math:: \bar\theta \leftarrow d \bar\theta + (1 - d) \theta

    by ``torch.optim.swa_utils``. After the first step it is the parameters themselves.

    References:
        Polyak & Juditsky, *Acceleration of Stochastic Approximation by Averaging*, 1992.

    Arguments:
        parameters: what is trained.
        decay: d, in (0, 1); an average over about 1 / (1 - d) steps.

    Raises:
        ValueError: the decay is out of range.

    Example:
        >>> weight = torch.zeros(1)
        >>> average = MovingAverage([weight], decay=0.75)
        >>> for value in (0.0, 1.0):
        ...     average.update([weight.fill_(value)])
        >>> average.values
        [tensor([0.2500])]
    """

    def __init__(self, parameters: Sequence[Tensor], decay: float) -> None:
        check_real("ema", decay, lambda d: 0 < d < 1, "must lie between 0 and 1, such as 0.999")
        self.decay, self.count = decay, 0
        self.values = [parameter.detach().clone() for parameter in parameters]
        self._update = get_ema_multi_avg_fn(decay)

    @torch.no_grad()
    def update(self, parameters: Sequence[Tensor]) -> None:
        """Takes in the parameters after a step."""
        if self.count:
            self._update(self.values, [p.detach() for p in parameters], self.count)
        else:
            self._take([p.detach() for p in parameters])
        self.count += 1

    @contextmanager
    def in_place_of(self, parameters: Sequence[Tensor]) -> Iterator[None]:
        """Puts the average into the parameters while a block runs."""
        own = [parameter.detach().clone() for parameter in parameters]
        self.write_to(parameters)
        try:
            yield
        finally:
            self._write(parameters, own)

    def write_to(self, parameters: Sequence[Tensor]) -> None:
        """Puts the average into the parameters for good."""
        self._write(parameters, self.values)

    def state_dict(self) -> dict[str, Any]:
        """What the rest of the training depends on."""
        return {"count": self.count, "values": list(self.values)}

    def checked_state(self, state: Any, steps: int) -> dict[str, Any]:
        """A copy of a stored state of a training that made so many steps.

        Raises:
            StateError: it is none.
        """
        if not isinstance(state, dict) or set(state) != {"count", "values"}:
            raise StateError("average is no table of count and values")
        if type(state["count"]) is not int or state["count"] != steps:
            raise StateError(f"average: count is {state['count']!r}, expected {steps}")
        values = state["values"]
        if not isinstance(values, list) or len(values) != len(self.values):
            raise StateError(f"average: expected a list of {len(self.values)} tensors")
        pairs = enumerate(zip(values, self.values, strict=True))
        read = [stored_tensor(f"average[{number}]", one, like) for number, (one, like) in pairs]
        return {"count": steps, "values": read}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what ``checked_state`` returned."""
        self.count = state["count"]
        self._take(state["values"])

    @torch.no_grad()
    def _take(self, values: Sequence[Tensor]) -> None:
        self._write(self.values, values)

    @staticmethod
    @torch.no_grad()
    def _write(targets: Sequence[Tensor], values: Sequence[Tensor]) -> None:
        for target, value in zip(targets, values, strict=True):
            target.copy_(value)
