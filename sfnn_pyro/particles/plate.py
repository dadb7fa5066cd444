"""The plate of particles."""

from typing import Any

from pyro.poutine.broadcast_messenger import BroadcastMessenger
from pyro.poutine.indep_messenger import IndepMessenger


class _Name(str):
    """The name of the plate of particles, which no other equals, whatever a model calls its own."""

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)


PARTICLE_PLATE = _Name("particles of sfnn_pyro")


def is_particle_plate(frame: Any) -> bool:
    """Whether a frame of a site's stack is the plate of particles, and none of the model's own."""
    return frame.name is PARTICLE_PLATE


class ParticlePlate(IndepMessenger):
    """A plate around a whole program, for the M particles of every datapoint.

    What ``pyro.plate`` does to sample sites, less what particles never need: they are not
    subsampled, and parameters, which all of them share, pass by.

    Arguments:
        name: of the plate.
        size: M.
        dim: the batch dimension, left of every plate of the program.

    Example:
        >>> import pyro, pyro.distributions as dist
        >>> with ParticlePlate("particles", 20, dim=-2):
        ...     pyro.sample("h", dist.Bernoulli(0.5).expand([3])).shape
        torch.Size([20, 3])
    """

    def _process_message(self, msg: Any) -> None:
        if msg["type"] == "sample":
            super()._process_message(msg)
            BroadcastMessenger._pyro_sample(msg)
