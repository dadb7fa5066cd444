"""This project's step: ``svi.step`` with the prior as proposal, of one network or of replicas."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from pyro.infer import SVI

from benchmarks.network import LEARNING_RATE, MOMENTUM, SIZES, make_batch

NUMBERS = itertools.count()


def make_ours(
    batch: int,
    num_particles: int,
    sizes=SIZES,
    *,
    estimator: str = "G3",
    bfloat16: bool = False,
    particle_chunk: int | None = None,
    kept: int | None = None,
    device: str = "cpu",
    how: str = "eager",
    replicas: int = 0,
    gain: float = 1.0,
) -> Callable[[], object]:
    from sfnn_pyro import estimators
    from sfnn_pyro.guides import PriorProposal
    from sfnn_pyro.models import SFNN, ReplicatedSFNN
    from sfnn_pyro.training import JointOptim

    x, y = (torch.from_numpy(part).to(device) for part in make_batch(batch, sizes))
    name = f"network{next(NUMBERS)}"
    if replicas:
        model = ReplicatedSFNN([SFNN(list(sizes)) for _ in range(replicas)], name=name)
    else:
        model = SFNN(list(sizes), name=name)
    model = model.to(device)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(gain)
    elbo = getattr(estimators, estimator)(num_particles=num_particles)
    if particle_chunk is not None:
        elbo = estimators.Chunked(elbo, particle_chunk)
    if kept is not None:
        elbo = estimators.Resampled(elbo, kept)
    if how in ("compiled", "replayed"):
        elbo = estimators.Compiled(elbo, compile=how == "compiled")
    if how == "lazy" or (device != "cpu" and how != "eager"):
        elbo = estimators.Lazy(elbo)
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM, fused=True)
    svi = SVI(model, PriorProposal(model), JointOptim(optimizer), elbo)

    def step() -> object:
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=bfloat16):
            return svi.step(x, y)

    return step
