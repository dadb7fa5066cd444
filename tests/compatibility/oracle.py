"""Expectations over every tuple of particles, for models that follow public bug reports."""

import itertools
import math
from collections.abc import Callable, Sequence

import torch
from pyro import distributions as dist
from pyro import poutine
from torch import Tensor


class Forced(poutine.messenger.Messenger):
    """Gives latent sites the values of a tuple of particles."""

    def __init__(self, values: dict[str, Tensor]) -> None:
        super().__init__()
        self.values = values

    def _pyro_sample(self, msg):
        if msg["name"] in self.values and not msg["is_observed"] and not msg["done"]:
            shape = msg["fn"].batch_shape + msg["fn"].event_shape
            msg["value"] = self.values[msg["name"]].expand(shape)
            msg["done"] = True


def leaf(*values: float | list[float]) -> list[Tensor]:
    return [torch.tensor(value, requires_grad=True) for value in values]


def bernoulli(logit: Tensor | float, value: Tensor) -> Tensor:
    return dist.Bernoulli(logits=torch.as_tensor(logit)).log_prob(value)


def normal(loc: Tensor, value: Tensor) -> Tensor:
    return dist.Normal(loc, 1.0).log_prob(value)


def binary(count: int) -> list[Tensor]:
    """All joint states of ``count`` bits: one column ``(2^count,)`` for each bit."""
    rows = torch.tensor(list(itertools.product([0.0, 1.0], repeat=count)))
    return list(rows.unbind(1))


def gradient(value: Tensor, parameters: Sequence[Tensor]) -> Tensor:
    found = torch.autograd.grad(value, parameters, allow_unused=True, retain_graph=True)
    return torch.cat(
        [
            (torch.zeros_like(p) if g is None else g).reshape(-1)
            for g, p in zip(found, parameters, strict=True)
        ]
    )


def expected(
    estimator, model: Callable, guide: Callable, tables: dict[str, Tensor], log_q: Tensor, of
) -> tuple[float, Tensor]:
    """E[reported objective] and E[its gradient] with respect to ``of``.

    ``tables`` has one row per joint state at each site, shaped as the site is beside the particle
    dimension; ``log_q`` the states' log-probabilities under the proposal.
    """
    value, grad = 0.0, torch.zeros(())
    for tuple_ in itertools.product(range(len(log_q)), repeat=estimator.num_particles):
        probability = log_q[list(tuple_)].sum().exp().item()
        with Forced({name: table[list(tuple_)] for name, table in tables.items()}):
            loss = estimator.differentiable_loss(model, guide)
        value = value - probability * loss.item()
        grad = grad - probability * gradient(loss, of)
    return value, grad


def objective(log_weight: Tensor, log_q: Tensor, num_particles: int) -> Tensor:
    """E[log mean of M weights], differentiable."""
    total = torch.zeros(())
    for tuple_ in itertools.product(range(len(log_q)), repeat=num_particles):
        chosen = list(tuple_)
        mean = torch.logsumexp(log_weight[chosen], 0) - math.log(num_particles)
        total = total + log_q[chosen].sum().exp() * mean
    return total


def bound(log_weight: Tensor, log_q: Tensor) -> Tensor:
    """E[log of one weight], differentiable."""
    return (log_q.exp() * log_weight).sum()
