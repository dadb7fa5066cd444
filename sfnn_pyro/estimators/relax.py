"""RELAX: REBAR with a learned function beside the relaxed objective."""

from collections.abc import Sequence
from typing import Any, Unpack

import torch
from torch import Tensor

from sfnn_pyro.estimators.base import Options
from sfnn_pyro.estimators.learned import LearnedFunction, check_state
from sfnn_pyro.estimators.rebar import REBAR, Relaxed
from sfnn_pyro.particles import SiteTerm


class RELAX(REBAR):
    r"""``REBAR`` whose control variate is :math:`\eta c(z) + r(z, a)`, with a learned r.

    For each latent site r is a small network of the relaxed units and their logits, which
    begins at zero and descends the squared norm of the gradient's estimate, that is, its
    variance. A step learns after its own gradient is taken. Prefer ``REBAR`` unless
    many thousands of steps are to come: r has to be learned first.

    References:
        Grathwohl, Choi, Wu, Roeder, Duvenaud, *Backpropagation through the Void: Optimizing
        control variates for black-box gradient estimation*, ICLR 2018, arXiv 1711.00123.

    Arguments:
        num_particles: M, at least 1.
        temperature: tau, positive.
        width: hidden units of r, at least 1.
        rate: learning rate of r, by Adam.
        options: see ``Estimator``; it needs ``vectorize_particles``.

    Raises:
        ValueError: as by ``REBAR``; ``width`` or ``rate`` is not positive.

    Example:
        >>> import torch
        >>> from sfnn_pyro.guides import PriorProposal
        >>> from sfnn_pyro.models import SFNN
        >>> model, elbo = SFNN([4, 3, 2]), RELAX(num_particles=1)
        >>> elbo(model, PriorProposal(model))(torch.zeros(5, 4), torch.ones(5, 2)).backward()
        >>> list(elbo.functions)
        ['h1']
    """

    def __init__(
        self,
        num_particles: int = 20,
        *,
        temperature: float = 0.5,
        width: int = 64,
        rate: float = 1e-3,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(num_particles, temperature=temperature, **options)
        for name, value in (("width", width), ("rate", rate)):
            if not value > 0:
                raise ValueError(f"{name}={value}: must be positive")
        self.width, self.rate = width, rate
        self.functions: dict[str, LearnedFunction] = {}

    def state_dict(self) -> dict[str, Any]:
        """Eta's moving averages, and by site the parameters of r with the state of Adam."""
        functions = {name: one.state_dict() for name, one in self.functions.items()}
        return {**super().state_dict(), "functions": functions}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        check_state("RELAX", state, {"averages", "functions"})
        self.scale.averages = state["averages"].clone()
        self.functions = {}
        for name, one in state["functions"].items():
            self.functions[name] = LearnedFunction(self.width, self.rate)
            self.functions[name].load_state_dict(one)

    def further_control(self, term: SiteTerm, relaxed: Relaxed) -> tuple[Any, Any]:
        if term.name not in self.functions:
            self.functions[term.name] = LearnedFunction(self.width, self.rate)
        with torch.enable_grad():
            z = relaxed.z.detach().requires_grad_()
            logits = term.logits.detach().expand(z.shape)
            features = torch.cat([_row(z, term), _row(logits, term)], -1).sigmoid()
            value = self.functions[term.name](features)  # (M, *batch)
            (slope,) = torch.autograd.grad(value.sum(), z, create_graph=True)
        return value, slope * relaxed.path

    def learn(self, names: Sequence[str], estimates: Sequence[Tensor]) -> None:
        if not torch.is_grad_enabled():
            return
        for name, estimate in zip(names, estimates, strict=True):
            rows = max(estimate.numel() // max(estimate.shape[-1:].numel(), 1), 1)
            self.functions[name].descend(estimate.square().sum() / rows)


def _row(units: Tensor, term: SiteTerm) -> Tensor:
    """``(M, *batch, n)``: all units of a datapoint in one row, those in inner plates too."""
    batch = units.dim() - term.fn.event_dim
    inner = [batch + dim for dim in term.sum_dims if batch + dim >= 0]
    shape = [1 if dim in inner else units.shape[dim] for dim in range(batch)]
    outer = [dim for dim in range(batch) if dim not in inner]
    order = [*outer, *sorted(inner), *range(batch, units.dim())]
    return units.permute(order).reshape(*shape, -1)
