"""What Pyro itself offers for the same network: RenyiELBO and ReweightedWakeSleep."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import SVI, RenyiELBO, ReweightedWakeSleep

from benchmarks.eager import make_net
from benchmarks.network import LEARNING_RATE, MOMENTUM, SIZES, make_batch, make_layers


def make_programs(net):
    """A plain model, and a guide that runs the network again to sample the same prior.

    The guide's logits carry no gradient: at alpha = 0 Pyro multiplies it by zero, and
    reweighted wake-sleep would train the network twice.
    """

    def hidden(h):
        for depth, linear in enumerate(net[:-1], start=1):
            h = pyro.sample(f"h{depth}", dist.Bernoulli(logits=linear(h)).to_event(1))
        return h

    def model(x, y):
        pyro.module("net", net)
        with pyro.plate("data", len(x), dim=-1):
            h = hidden(x)
            pyro.sample("y", dist.Bernoulli(logits=net[-1](h)).to_event(1), obs=y)

    def guide(x, y):
        with torch.no_grad(), pyro.plate("data", len(x), dim=-1):
            hidden(x)

    return model, guide


def _make_step(elbo, batch: int, sizes, validate: bool):
    x, y = map(torch.from_numpy, make_batch(batch, sizes))
    net = make_net(make_layers(sizes))
    optimizer = pyro.optim.SGD({"lr": LEARNING_RATE, "momentum": MOMENTUM})
    svi = SVI(*make_programs(net), optimizer, elbo)

    def step() -> float:
        with pyro.validation_enabled(validate):
            return svi.step(x, y)

    return step


def make_pyro_renyi(batch: int, num_particles: int, sizes=SIZES, *, validate: bool = True):
    elbo = RenyiELBO(
        alpha=0, num_particles=num_particles, vectorize_particles=True, max_plate_nesting=1
    )
    return _make_step(elbo, batch, sizes, validate)


def make_pyro_rws(batch: int, num_particles: int, sizes=SIZES, *, validate: bool = True):
    """One weight per particle for the whole batch: the same work, another objective."""
    elbo = ReweightedWakeSleep(
        num_particles=num_particles, vectorize_particles=True, max_plate_nesting=1
    )
    return _make_step(elbo, batch, sizes, validate)
