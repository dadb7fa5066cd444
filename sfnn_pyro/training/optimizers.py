"""PyTorch optimizers: the paper's, and one of any kind under Pyro's ``SVI``."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from pyro.optim import PyroOptim
from torch import Tensor

from sfnn_pyro.training.schedule import Schedule


def sgd(parameters: list[Tensor], schedule: Schedule) -> torch.optim.Optimizer:
    """Stochastic gradient descent with the momentum and weight decay of a schedule.

    Arguments:
        parameters: what is trained.
        schedule: its learning rate is the highest.

    Example:
        >>> sgd([torch.zeros(2, requires_grad=True)], Schedule()).defaults["momentum"]
        0.9
    """
    return torch.optim.SGD(
        parameters,
        lr=schedule.learning_rate,
        momentum=schedule.momentum,
        weight_decay=schedule.weight_decay,
        fused=True,
    )


def adam(parameters: list[Tensor], schedule: Schedule) -> torch.optim.Optimizer:
    """Adam, with the weight decay of a schedule added to the gradients; it has no momentum.

    Arguments:
        parameters: what is trained.
        schedule: its learning rate is the highest.
    """
    return torch.optim.Adam(
        parameters, lr=schedule.learning_rate, weight_decay=schedule.weight_decay, fused=True
    )


def adamw(parameters: list[Tensor], schedule: Schedule) -> torch.optim.Optimizer:
    """Adam, with the weight decay of a schedule apart from the gradients.

    Arguments:
        parameters: what is trained.
        schedule: its learning rate is the highest.
    """
    return torch.optim.AdamW(
        parameters, lr=schedule.learning_rate, weight_decay=schedule.weight_decay, fused=True
    )


OPTIMIZERS: dict[str, Callable[[list[Tensor], Schedule], torch.optim.Optimizer]] = {
    "sgd": sgd,
    "adam": adam,
    "adamw": adamw,
}
"""By the name that the command line uses."""


class AdamBesideSGD(torch.optim.Adam):
    r"""Adam for most parameters, and plain gradient descent for a few.

    One optimizer, so that one state is saved. The DisARM paper trains the prior's logits so,
    with a learning rate of their own.

    References:
        Kingma and Ba, *Adam*, ICLR 2015, arXiv 1412.6980.

    Arguments:
        parameters: trained by Adam.
        lr: its learning rate.
        plain: trained by gradient descent; may be empty.
        plain_lr: its learning rate.

    Example:
        >>> weight, bias = (torch.zeros(1, requires_grad=True) for _ in range(2))
        >>> optimizer = AdamBesideSGD([weight], lr=0.1, plain=[bias], plain_lr=0.5)
        >>> weight.grad, bias.grad = torch.full((1,), 3.0), torch.full((1,), 3.0)
        >>> optimizer.step()
        >>> weight, bias
        (tensor([-0.1000], requires_grad=True), tensor([-1.5000], requires_grad=True))
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float,
        *,
        plain: Iterable[Tensor] = (),
        plain_lr: float = 0.0,
    ) -> None:
        groups: list[dict[str, Any]] = [{"params": list(parameters), "plain": False}]
        if plain := list(plain):
            groups.append({"params": plain, "lr": plain_lr, "plain": True})
        super().__init__(groups, lr=lr, fused=True)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"] if group["plain"] else ():
                if parameter.grad is not None:
                    parameter.add_(parameter.grad, alpha=-group["lr"])
                    parameter.grad = None  # which Adam passes over
        super().step()


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
        self.check_held(params)
        self.optimizer.step()
        # An autocast entered around many steps keeps the first step's half-precision weights.
        torch.clear_autocast_cache()
        self.optimizer.zero_grad(set_to_none=True)

    def get_state(self) -> dict:
        return self.optimizer.state_dict()

    def set_state(self, state_dict: dict) -> None:
        self.optimizer.load_state_dict(state_dict)

    def check_held(self, params: Iterable[Tensor]) -> None:
        """Refuses a parameter that the optimizer would not change."""
        for parameter in params:
            if id(parameter) not in self._held:
                raise ValueError(
                    f"SVI met a parameter of shape {tuple(parameter.shape)} that the optimizer "
                    "does not hold: construct it over the parameters of model and guide"
                )
