"""G3 and G5 by hand in eager PyTorch, without this project's code."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.network import LEARNING_RATE, MOMENTUM, SIZES, Layers, make_batch, make_layers


def make_net(layers: Layers) -> nn.ModuleList:
    net = nn.ModuleList()
    for weight, bias in layers:
        linear = nn.Linear(*weight.shape)
        linear.weight.data.copy_(torch.from_numpy(weight).t())
        linear.bias.data.copy_(torch.from_numpy(bias))
        net.append(linear)
    return net


def _log_bernoulli(logits: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    logits, value = torch.broadcast_tensors(logits, value)
    return -F.binary_cross_entropy_with_logits(logits, value, reduction="none").sum(-1)


def _log_mean_exp(log_w: torch.Tensor) -> torch.Tensor:
    return torch.logsumexp(log_w, 0) - math.log(len(log_w))


def loss_g3(net, x, y, uniforms) -> torch.Tensor:
    """``uniforms``: one (M, B, n) tensor of uniform draws for each hidden layer."""
    h = x
    for linear, u in zip(net[:-1], uniforms, strict=True):
        p = torch.sigmoid(linear(h))
        h = p + ((u < p).to(p.dtype) - p).detach()  # (M, B, n)
    return -_log_mean_exp(_log_bernoulli(net[-1](h), y)).sum()


def surrogate_g5(net, x, y, uniforms) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss, and a surrogate that has the gradient of eq 32."""
    h, log_p = x, 0.0
    for linear, u in zip(net[:-1], uniforms, strict=True):
        a = linear(h)
        h = (u < torch.sigmoid(a.detach())).to(a.dtype)  # (M, B, n)
        log_p = log_p + _log_bernoulli(a, h)
    log_w = _log_bernoulli(net[-1](h), y)  # (M, B)
    loss = -_log_mean_exp(log_w).sum()
    coefficient = torch.softmax(log_w.detach(), 0) - 1 / len(log_w)
    return loss, loss - (coefficient * log_p).sum()


def _make_step(surrogate, batch: int, num_particles: int, sizes):
    x, y = map(torch.from_numpy, make_batch(batch, sizes))
    net = make_net(make_layers(sizes))
    optimizer = torch.optim.SGD(net.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM)

    def step() -> torch.Tensor:
        uniforms = [torch.rand(num_particles, batch, n) for n in sizes[1:-1]]
        loss, objective = surrogate(net, x, y, uniforms)
        optimizer.zero_grad()
        objective.backward()
        optimizer.step()
        return loss.detach()

    return step


def make_torch_g3(batch: int, num_particles: int, sizes=SIZES):
    def surrogate(*args):
        loss = loss_g3(*args)
        return loss, loss

    return _make_step(surrogate, batch, num_particles, sizes)


def make_torch_g5(batch: int, num_particles: int, sizes=SIZES):
    return _make_step(surrogate_g5, batch, num_particles, sizes)
