"""Training on several processes: data-parallel, particle-parallel and elastic, by PyTorch."""

from sfnn_pyro.distributed.agreement import DisagreementError, check_agreement
from sfnn_pyro.distributed.data_parallel import SPLITS, DistributedTrainer
from sfnn_pyro.distributed.particle_parallel import ParticleParallel
from sfnn_pyro.distributed.process_group import (
    TIMEOUT_MINUTES,
    LostContact,
    ProcessGroup,
    joined,
    launched,
    own_device,
)
from sfnn_pyro.distributed.shards import SharedBatches

__all__ = [
    "SPLITS",
    "TIMEOUT_MINUTES",
    "DisagreementError",
    "DistributedTrainer",
    "LostContact",
    "ParticleParallel",
    "ProcessGroup",
    "SharedBatches",
    "check_agreement",
    "joined",
    "launched",
    "own_device",
]
