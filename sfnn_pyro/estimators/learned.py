"""What an estimator learns as it goes: the scale of a control variate, and small networks."""

from typing import Any

import torch
from torch import Tensor


class LearnedScale:
    r"""The factor of a control variate, by regression over the steps before.

    .. math:: \eta = E[g_0^\top g_1] / E[g_1^\top g_1]

    is the factor for which :math:`g_0 - \eta g_1` has the least variance, when
    :math:`g_1` has a mean of zero. Both expectations are exponential moving averages, and a step
    adds to them after its own gradient is taken, so that no gradient is weighted by itself.

    Arguments:
        first: the factor before the first step, and where the control variate never varied.
        decay: of the averages, in [0, 1).

    Example:
        >>> import torch
        >>> scale = LearnedScale(first=1.0)
        >>> scale.value, scale.update([torch.ones(3)], [torch.full((3,), 2.0)]), scale.value
        (1.0, None, 0.5)
    """

    def __init__(self, first: float, decay: float = 0.99) -> None:
        self.first, self.decay = first, decay
        self.averages = torch.zeros(2, dtype=torch.float64)

    @property
    def value(self) -> float:
        """The present factor."""
        product, square = self.averages.tolist()
        return product / square if square > 0 else self.first

    def update(self, plain: list[Tensor], control: list[Tensor]) -> None:
        """Adds the two parts of a gradient, site by site."""
        pairs = list(zip(plain, control, strict=True))
        product = [(a.double() * b.double()).sum().cpu() for a, b in pairs]
        square = [b.double().square().sum().cpu() for b in control]
        new = torch.stack([torch.stack(product).sum(), torch.stack(square).sum()])
        if not new.isfinite().all():
            return
        known = bool(self.averages[1] > 0)
        self.averages = torch.lerp(new, self.averages, self.decay) if known else new


class LearnedFunction:
    r"""A small network from features of a datapoint to one number, trained by Adam.

    .. math:: r(u) = c + w^\top \tanh(A u + b)

    It begins at zero, for any features. Its random numbers are its own, so that an estimator
    that learns draws no others than one that does not.

    Arguments:
        width: hidden units.
        rate: Adam's learning rate.

    Example:
        >>> import torch
        >>> LearnedFunction(width=8)(torch.ones(5, 3)).tolist()
        [0.0, 0.0, 0.0, 0.0, 0.0]
    """

    def __init__(self, width: int = 64, rate: float = 1e-3) -> None:
        self.width, self.rate = width, rate
        self.parameters: list[Tensor] = []
        self.optimizer: torch.optim.Optimizer | None = None

    def _build(self, parameters: list[Tensor]) -> None:
        self.parameters = [p.detach().clone().requires_grad_() for p in parameters]
        self.optimizer = torch.optim.Adam(self.parameters, self.rate)

    def __call__(self, features: Tensor) -> Tensor:
        """``(...)`` of features ``(..., n)``."""
        size = features.shape[-1]
        if not self.parameters:
            generator = torch.Generator().manual_seed(size)
            first = torch.randn(self.width, size, generator=generator, dtype=torch.float64)
            first = first / max(size, 1) ** 0.5
            sizes = ((self.width,), (self.width,), ())
            self._build([one.to(features) for one in (first, *map(torch.zeros, sizes))])
        weight, bias, out, constant = self.parameters
        if weight.shape[1] != size:
            raise ValueError(
                f"a learned function of {weight.shape[1]} features was given {size}: use one "
                "estimator for each model"
            )
        return torch.tanh(torch.nn.functional.linear(features, weight, bias)) @ out + constant

    def descend(self, value: Tensor) -> None:
        """One step of Adam down a scalar; nothing where it is not finite."""
        assert self.optimizer is not None
        if not bool(value.isfinite()):
            return
        gradients = torch.autograd.grad(value, self.parameters, allow_unused=True)
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient
        self.optimizer.step()
        self.optimizer.zero_grad()

    def state_dict(self) -> dict[str, Any]:
        """Parameters and the state of Adam; empty before the first call."""
        if self.optimizer is None:
            return {}
        slots = self.optimizer.state_dict()["state"]
        return {
            "parameters": [p.detach().clone() for p in self.parameters],
            "adam": {
                str(number): {name: value.clone() for name, value in one.items()}
                for number, one in slots.items()
            },
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up a state that ``state_dict`` returned.

        Raises:
            ValueError: it is no such state.
        """
        if not state:
            self.parameters, self.optimizer = [], None
            return
        check_state("a learned function", state, {"parameters", "adam"})
        parameters, slots = state["parameters"], state["adam"]
        shapes = [tuple(getattr(p, "shape", "?")) for p in parameters]
        width = self.width
        if len(shapes) != 4 or shapes[1:] != [(width,), (width,), ()] or shapes[0][0] != width:
            raise ValueError(f"a learned function of width {width} has no parameters {shapes}")
        self._build(parameters)
        assert self.optimizer is not None
        whole = self.optimizer.state_dict()
        for number, one in slots.items():
            own = self.parameters[int(number)]
            check_state("its state of Adam", one, {"step", "exp_avg", "exp_avg_sq"})
            if {one["exp_avg"].shape, one["exp_avg_sq"].shape} != {own.shape}:
                raise ValueError(f"the state of Adam for parameter {number} is of another shape")
            whole["state"][int(number)] = {name: value.clone() for name, value in one.items()}
        self.optimizer.load_state_dict(whole)


def check_state(name: str, state: dict[str, Any], keys: set[str]) -> None:
    """Refuses a state with other keys."""
    if set(state) != keys:
        raise ValueError(f"a state of {name} has the keys {sorted(keys)}, this one {sorted(state)}")
