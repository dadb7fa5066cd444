"""How much the gradients of a training vary."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from sfnn_pyro.training.stored_state import stored_number, stored_tensor

DECAY = 0.999


class GradientMoments:
    r"""Moving averages of the gradient and of its square, and the variance that they give.

    .. math::
        \mathrm{Var} = \frac1n \sum_i \left( \overline{g_i^2} - \bar g_i^2 \right), \qquad
        \bar g \leftarrow d \bar g + (1 - d) g

    both averages divided by :math:`1 - d^t` after t steps. Parameters move while the averages are
    taken, and minibatches differ: the number is of use beside that of another estimator at the
    same point of the same training.

    References:
        Tucker, Mnih, Maddison, Lawson, Sohl-Dickstein, *REBAR*, NIPS 2017; Dong, Mnih, Tucker,
        *DisARM*, NeurIPS 2020, whose code measures it so.

    Arguments:
        parameters: whose gradients are followed; they must have one at every ``update``.
        decay: d, in [0, 1).

    Raises:
        ValueError: the decay is out of range.

    Example:
        >>> parameter = torch.zeros(1, requires_grad=True)
        >>> moments = GradientMoments([parameter], decay=0.0)
        >>> parameter.grad = torch.ones(1)
        >>> moments.update()
        >>> moments.variance()
        0.0
    """

    def __init__(self, parameters: Iterable[Tensor], decay: float = DECAY) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"decay={decay}: must lie in [0, 1)")
        self.parameters, self.decay, self.steps = list(parameters), decay, 0
        self._first = [torch.zeros_like(p, requires_grad=False) for p in self.parameters]
        self._second = [torch.zeros_like(p, requires_grad=False) for p in self.parameters]

    @torch.no_grad()
    def update(self) -> None:
        """Takes in the gradients that the parameters have."""
        gradients: list[Any] = [p.grad for p in self.parameters]
        torch._foreach_lerp_(self._first, gradients, 1 - self.decay)
        torch._foreach_mul_(self._second, self.decay)
        torch._foreach_addcmul_(self._second, gradients, gradients, 1 - self.decay)
        self.steps += 1

    @torch.no_grad()
    def variance(self) -> float:
        """The mean variance of a component of the gradient; NaN before the first step."""
        if not self.steps:
            return float("nan")
        rest = 1 - self.decay**self.steps
        total = sum(
            (second / rest - (first / rest).square()).sum().item()
            for first, second in zip(self._first, self._second, strict=True)
        )
        return total / sum(p.numel() for p in self.parameters)

    def state_dict(self) -> dict[str, Any]:
        """What must be saved so that the training resumes exactly."""
        return {"steps": self.steps, "first": self._first, "second": self._second}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up a state that ``state_dict`` returned.

        Raises:
            StateError: a field is not that of such averages.
        """
        steps = stored_number("steps", state["steps"], int, 0, 2**53)
        averages = [
            [
                stored_tensor(f"{name}[{number}]", value, like)
                for number, (value, like) in enumerate(zip(state[name], own, strict=True))
            ]
            for name, own in (("first", self._first), ("second", self._second))
        ]
        self.steps = steps
        self._first, self._second = averages
