"""Slow and obvious rivals: expectations over all tuples of particles of a small model.

A model here is anything with the signature model(x, y) whose latent sites are Bernoulli. The
expectation of a gradient over the M particles of one datapoint is a sum over all (2^n)^M tuples,
each fed to the estimator by a model that is conditioned to propose exactly that tuple.
"""

import itertools
from collections.abc import Callable

import pyro
import torch
from pyro import poutine
from torch import Tensor


class Forced(poutine.messenger.Messenger):
    """Gives latent sites of a run under a particle plate their values."""

    def __init__(self, values: dict[str, Tensor]) -> None:
        super().__init__()
        self.values = values

    def _pyro_post_sample(self, msg):
        if msg["name"] in self.values and not msg["is_observed"]:
            value = self.values[msg["name"]].expand(msg["value"].shape)
            # h + (value - h): the straight-through path stays, the value is the forced one.
            drawn = msg["value"]
            msg["value"] = value + (drawn - drawn.detach()) if drawn.requires_grad else value


def states(width: int) -> Tensor:
    """All binary vectors, ``(2^n, n)``."""
    return torch.tensor(list(itertools.product([0.0, 1.0], repeat=width)))


def joint_states(widths: dict[str, int]) -> list[dict[str, Tensor]]:
    """All joint configurations of named layers."""
    tables = [states(width) for width in widths.values()]
    return [dict(zip(widths, rows, strict=True)) for rows in itertools.product(*tables)]


def sfnn_parameters(model) -> list[Tensor]:
    return list(model.parameters())


def sfnn_log_probs(model, x: Tensor, y: Tensor, h: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """(log P(y|h), log P(h|x)) of one configuration, (B,) each, written out by hand."""
    below, prior = x, x.new_zeros(x.shape[0])
    *hidden, output = model.layers
    for layer, value in zip(hidden, h.values(), strict=True):
        p = torch.sigmoid(below @ layer.weight.T + layer.bias)
        prior = prior + (value * p + (1 - value) * (1 - p)).log().sum(-1)
        below = value.expand(x.shape[0], -1)
    p = torch.sigmoid(below @ output.weight.T + output.bias)
    return (y * p + (1 - y) * (1 - p)).log().sum(-1), prior


def gradient(value: Tensor, parameters: list[Tensor]) -> Tensor:
    grads = torch.autograd.grad(value, parameters, allow_unused=True, retain_graph=True)
    return torch.cat(
        [
            (torch.zeros_like(p) if g is None else g).flatten()
            for g, p in zip(grads, parameters, strict=True)
        ]
    )


def tuples(configurations: list, num_particles: int):
    """All tuples of M configurations, each stacked along a leading particle dimension."""
    for chosen in itertools.product(range(len(configurations)), repeat=num_particles):
        picked = [configurations[index] for index in chosen]
        yield (
            chosen,
            {name: torch.stack([one[name] for one in picked]).unsqueeze(1) for name in picked[0]},
        )


def expected_gradient(
    estimator, model: Callable, guide: Callable, x, y, configurations, log_proposal, parameters
) -> Tensor:
    """E[gradient of differentiable_loss] for one datapoint, over all tuples of particles.

    ``log_proposal[k]`` is the proposal's log-probability of configuration k.
    """
    total = 0.0
    for chosen, values in tuples(configurations, estimator.num_particles):
        probability = log_proposal[list(chosen)].sum().exp()
        with Forced(values):
            loss = estimator.differentiable_loss(model, guide, x, y)
        total = total + probability * gradient(loss, parameters)
    return total


def clear() -> None:
    pyro.clear_param_store()
