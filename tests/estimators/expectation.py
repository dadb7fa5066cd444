"""The slow and obvious rival: expectations over every tuple of particles, in one batch.

Every tuple of M configurations is one datapoint of a batch that repeats the same (x, y), and a
``poutine.scale`` holds the probability of each tuple: one call of the estimator then returns its
exact expectation. The targets are written with autograd over tables of log-probabilities.
"""

import itertools
from contextlib import contextmanager

import pyro
import torch
from pyro import poutine
from torch import Tensor


class Queue(poutine.messenger.Messenger):
    """Gives the next draws of latent sites their values, in order; later ones are drawn."""

    def __init__(self, values: dict[str, list[Tensor]]) -> None:
        super().__init__()
        self.values = {name: list(draws) for name, draws in values.items()}

    def _pyro_sample(self, msg):
        if msg["is_observed"] or msg["done"] or not self.values.get(msg["name"]):
            return
        value = self.values[msg["name"]].pop(0)
        msg["value"] = value.expand(msg["fn"].batch_shape + msg["fn"].event_shape)
        msg["done"] = True


def all_tuples(num_states: int, num_particles: int) -> Tensor:
    """(T, M): every tuple of states."""
    return torch.tensor(list(itertools.product(range(num_states), repeat=num_particles)))


def shares(counts) -> list[int]:
    """The component that draws each particle."""
    return [number for number, count in enumerate(counts) for _ in range(count)]


def tuple_log_prob(tuples: Tensor, log_proposals: list[Tensor], counts) -> Tensor:
    """(T,): of each tuple, its particles drawn by their components."""
    columns = [log_proposals[k][tuples[:, m]] for m, k in enumerate(shares(counts))]
    return torch.stack(columns).sum(0)


def log_mixture(log_proposals: list[Tensor], counts) -> Tensor:
    """(K,): of each state under the mixture."""
    weight = torch.tensor(counts, dtype=torch.get_default_dtype()) / sum(counts)
    return torch.logsumexp(torch.stack(log_proposals) + weight.log().unsqueeze(-1), 0)


def expected_objective(log_joint: Tensor, log_proposals: list[Tensor], counts) -> Tensor:
    """E[Chat_M] as a differentiable function of the tables."""
    tuples = all_tuples(len(log_joint), sum(counts))
    log_weight = (log_joint - log_mixture(log_proposals, counts))[tuples]  # (T, M)
    objective = torch.logsumexp(log_weight, 1) - torch.tensor(float(sum(counts))).log()
    return (tuple_log_prob(tuples, log_proposals, counts).exp() * objective).sum()


def expected_bound(log_joint: Tensor, log_proposals: list[Tensor], counts) -> Tensor:
    """E[mean of log w] as a differentiable function of the tables."""
    tuples = all_tuples(len(log_joint), sum(counts))
    log_weight = (log_joint - log_mixture(log_proposals, counts))[tuples]
    return (tuple_log_prob(tuples, log_proposals, counts).exp() * log_weight.mean(1)).sum()


def expected_self_normalised(log_joint, log_proposals, counts, of) -> Tensor:
    """E[sum of normalised weight * of], differentiable in ``of`` (K,) alone."""
    tuples = all_tuples(len(log_joint), sum(counts))
    log_weight = (log_joint - log_mixture(log_proposals, counts)).detach()[tuples]
    probability = tuple_log_prob(tuples, log_proposals, counts).exp().detach()
    return (probability * (torch.softmax(log_weight, 1) * of[tuples]).sum(1)).sum()


def queue_of(tuples: Tensor, states: dict[str, Tensor], counts) -> dict[str, list[Tensor]]:
    """The draws of every component, (M_k, T, *event) each, of ``states[name]`` (K, *event)."""
    return {name: list(table[tuples.T].split(list(counts))) for name, table in states.items()}


@contextmanager
def weighing(tuples, log_proposals, counts, states, shape=(-1,)):
    """Tuples forced and weighted by their probabilities; ``shape`` of the batch of tuples."""
    probability = tuple_log_prob(tuples, log_proposals, counts).exp().detach()
    with Queue(queue_of(tuples, states, counts)), poutine.scale(scale=probability.reshape(shape)):
        yield


def gradient(value: Tensor, parameters: list[Tensor]) -> Tensor:
    grads = torch.autograd.grad(value, parameters, allow_unused=True, retain_graph=True)
    return torch.cat(
        [
            (torch.zeros_like(p) if g is None else g).flatten()
            for g, p in zip(grads, parameters, strict=True)
        ]
    )


def close(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, atol=1e-10, rtol=0)


def binary(width: int) -> Tensor:
    return torch.tensor(list(itertools.product([0.0, 1.0], repeat=width)))


def layer_log_prob(logits: Tensor, value: Tensor) -> Tensor:
    p = torch.sigmoid(logits)
    return (value * p + (1 - value) * (1 - p)).log().sum(-1)


def parameters_of(*programs) -> list[Tensor]:
    return [p for program in programs for p in program.parameters()]


def clear():
    pyro.clear_param_store()
