"""This project's step: `svi.step` with G3, G4 or G5 and the prior as proposal."""

from __future__ import annotations

import torch
from pyro.infer import SVI

from benchmarks.network import LEARNING_RATE, MOMENTUM, SIZES, make_batch


def make_ours(batch: int, num_particles: int, sizes=SIZES, *, estimator: str = "G3"):
    from sfnn_pyro import estimators
    from sfnn_pyro.guides import PriorProposal
    from sfnn_pyro.models import SFNN
    from sfnn_pyro.optim import JointOptim

    x, y = map(torch.from_numpy, make_batch(batch, sizes))
    model = SFNN(list(sizes), name=f"{estimator}_{batch}_{num_particles}")
    elbo = getattr(estimators, estimator)(num_particles=num_particles)
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM, fused=True)
    svi = SVI(model, PriorProposal(model), JointOptim(optimizer), elbo)
    return lambda: svi.step(x, y)
