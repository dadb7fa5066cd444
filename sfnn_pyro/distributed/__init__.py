"""Training on several processes: data-parallel, particle-parallel, elastic; PyTorch's engines."""

from sfnn_pyro.distributed.agreement import DisagreementError, check_agreement
from sfnn_pyro.distributed.batches import SharedBatches
from sfnn_pyro.distributed.particles import ParticleParallel
from sfnn_pyro.distributed.ranks import (
    TIMEOUT_MINUTES,
    LostContact,
    Ranks,
    joined,
    launched,
    own_device,
)
from sfnn_pyro.distributed.training import SPLITS, DistributedTrainer

__all__ = [
    "SPLITS",
    "TIMEOUT_MINUTES",
    "DisagreementError",
    "DistributedTrainer",
    "LostContact",
    "ParticleParallel",
    "Ranks",
    "SharedBatches",
    "check_agreement",
    "joined",
    "launched",
    "own_device",
]
