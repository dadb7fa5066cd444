"""PyTorch optimizers under Pyro's ``SVI``, and the paper's learning-rate schedule."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from pyro.optim import PyroOptim
from torch import Tensor


class JointOptim(PyroOptim):
    """One PyTorch optimizer for all parameters, where Pyro's own makes one for each.

    The same updates with less Python per step, and a state that saves as one ``state_dict``.

    Arguments:
        optimizer: a PyTorch optimizer over the parameters that SVI will meet.

    Raises:
        ValueError: SVI meets a parameter that the optimizer does not hold.

    Example:
        >>> import torch
        >>> from pyro.infer import SVI
        >>> from sfnn_pyro.estimators import G5
        >>> from sfnn_pyro.guides import PriorProposal
        >>> from sfnn_pyro.models import SFNN
        >>> model = SFNN([4, 3, 2])
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.001, momentum=0.9)
        >>> svi = SVI(model, PriorProposal(model), JointOptim(optimizer), G5(num_particles=20))
        >>> loss = svi.step(torch.zeros(5, 4), torch.ones(5, 2))
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        super().__init__(type(optimizer), {})
        self.optimizer = optimizer
        self._held = {id(p) for group in optimizer.param_groups for p in group["params"]}

    def __call__(self, params: Iterable[Tensor], *args: Any, **kwargs: Any) -> None:
        for parameter in params:
            if id(parameter) not in self._held:
                raise ValueError(
                    f"SVI met a parameter of shape {tuple(parameter.shape)} that the optimizer "
                    "does not hold: construct it over the parameters of model and guide"
                )
        self.optimizer.step()
        # An autocast entered around many steps keeps the first step's half-precision weights.
        torch.clear_autocast_cache()
        self.optimizer.zero_grad(set_to_none=True)

    def get_state(self) -> dict:
        return self.optimizer.state_dict()

    def set_state(self, state_dict: dict) -> None:
        self.optimizer.load_state_dict(state_dict)


def triangular(total_steps: int, rising_steps: float) -> Callable[[int], float]:
    """The paper's schedule: linearly up from zero, then linearly back to zero.

    Arguments:
        total_steps: steps of the whole training.
        rising_steps: steps until the maximum.

    Returns:
        Step number (from 0) to a factor in (0, 1), taken at the middle of the step.

    Example:
        >>> factor = triangular(total_steps=10, rising_steps=5)
        >>> [round(factor(step), 1) for step in range(10)]
        [0.1, 0.3, 0.5, 0.7, 0.9, 0.9, 0.7, 0.5, 0.3, 0.1]
    """

    def factor(step: int) -> float:
        t = step + 0.5
        return max(0.0, min(t / rising_steps, (total_steps - t) / (total_steps - rising_steps)))

    return factor
