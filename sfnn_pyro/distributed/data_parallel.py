"""The trainer over several processes: PyTorch's ``DistributedDataParallel`` around its steps."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
import torch.distributed as dist
from pyro.infer import ELBO
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from sfnn_pyro.data import Split
from sfnn_pyro.distributed.particle_parallel import ParticleParallel
from sfnn_pyro.distributed.process_group import ProcessGroup
from sfnn_pyro.training import Trainer
from sfnn_pyro.training.stored_state import (
    StateError,
    check_keys,
    checked_tree,
    stored_number,
    stored_random_state,
)

SPLITS = ("data", "particles")


@dataclass
class DistributedTrainer(Trainer):
    r"""A ``Trainer`` whose steps are those of one process, computed by N.

    Minibatches, schedule, history and the end of an epoch are the same on every rank. With
    ``split="data"`` a rank takes its share of the rows of each minibatch. Losses are sums, and
    ``DistributedDataParallel`` takes the mean of the ranks' gradients: a rank's loss is scaled by
    N/B, so that the mean over ranks is the mean over the B rows, whatever the shares are. With
    ``split="particles"`` all ranks see all rows: see ``ParticleParallel``.

    Every rank has a random stream of its own, by ``ProcessGroup.seed`` of the schedule's seed. The
    state holds all of them: a training resumed by as many ranks ends with the same bits. With
    another number of ranks new streams begin, and the result is the same in distribution alone.

    Arguments:
        model, guide, estimator: see ``Trainer``; the same on every rank.
        train_data, validation_data, schedule: likewise.
        parameters, validation_particles, make_optimizer: likewise; every parameter must have a
            gradient in every step.
        group: the processes, of PyTorch's default process group.
        split: ``"data"`` or ``"particles"``.

    Raises:
        ValueError: ``split`` is neither, or the estimator cannot divide its particles.
        NonFiniteError: on every rank alike.

    Example:
        Under ``torchrun``, in the place of ``Trainer``::

            with joined() as group:
                trainer = DistributedTrainer(model, guide, G3(20), digits.train,
                                             digits.validation, Schedule(), group=group)
                for epoch in trainer.run():
                    ...
    """

    group: ProcessGroup = field(default_factory=ProcessGroup)
    split: str = "data"

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise ValueError(f"split={self.split!r}: choose one of {', '.join(SPLITS)}")
        self._key: tuple[int, ...] = ()  # of the random streams, beside the seed
        super().__post_init__()

    @staticmethod
    def of(trainer: Trainer, group: ProcessGroup, split: str = "data") -> "DistributedTrainer":
        """The same training, over several processes; it must not have begun."""
        values = {f.name: getattr(trainer, f.name) for f in fields(Trainer) if f.init}
        return DistributedTrainer(**values, group=group, split=split)

    def record(self) -> dict[str, Any]:
        """How the training is distributed, with the seed of every rank's stream."""
        streams = [replace(self.group, rank=rank) for rank in range(self.group.size)]
        return {
            "ranks": self.group.size,
            "split": self.split,
            "backend": dist.get_backend(),
            "seeds": [group.seed(self.schedule.seed, *self._key) for group in streams],
        }

    def use_estimator(self, estimator: ELBO) -> None:
        if self.split == "particles":
            estimator = ParticleParallel(estimator, self.group)
        super().use_estimator(estimator)
        module = estimator(self.model, self.guide)
        # A model may be a function of its parameters, such as deterministic(model).
        module.trained = torch.nn.ParameterList(self.trained)
        self._module = DistributedDataParallel(module, gradient_as_bucket_view=True)

    def seed_random_state(self) -> None:
        torch.manual_seed(self.group.seed(self.schedule.seed, *self._key))

    def state_dict(self) -> dict[str, Any]:
        """As ``Trainer`` has it, with every rank's random state; all ranks must call it."""
        streams = {
            "key": list(self._key),
            "moments": self.group.gather_objects(self.random_state()),
        }
        return {**super().state_dict(), "ranks": streams}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        streams = state.get("ranks", {"moments": []})
        if len(streams["moments"]) == self.group.size:
            self._key = tuple(streams["key"])
            self.set_random_state(streams["moments"][self.group.rank])
        else:
            self._key = (self.steps,)
            self.seed_random_state()

    def checked_state(self, state: dict[str, Any]) -> dict[str, Any]:
        loaded = super().checked_state(state)
        streams = state.get("ranks", {"moments": [], "key": []})
        check_keys("ranks", streams, ("key", "moments"))
        if not isinstance(streams["key"], list) or not isinstance(streams["moments"], list):
            raise StateError("ranks: expected a list of numbers and a list of random states")
        for number in streams["key"]:
            stored_number("ranks['key']", number, int, 0, 2**63)
        for number, moment in enumerate(streams["moments"]):
            name = f"ranks['moments'][{number}]"
            if not isinstance(moment, dict) or not isinstance(moment["estimator"], dict):
                raise StateError(f"{name} is no table")
            stored_random_state(f"{name}['random']", moment["random"], torch.get_rng_state())
            checked_tree(f"{name}['estimator']", moment["estimator"])
        return loaded

    def compute_gradients(self, rows: Tensor) -> float:
        own, scale = rows, 1 / len(rows)
        if self.split == "data":
            own, scale = self.group.share(rows), self.group.size / len(rows)
            if not len(own):  # a rank without rows takes part with a weight of zero
                own, scale = rows[:1], 0.0
            self.show_rows(own)
        loss = self._module(self.epoch_data.x[own], self.epoch_data.y[own]) * scale
        loss.backward()
        return -self.group.sum([loss.item()])[0] / self.group.size

    def find_sites_at_fault(self, rows: Tensor) -> dict[str, list[int]]:
        own = self.group.share(rows) if self.split == "data" else rows
        found = super().find_sites_at_fault(own) if len(own) else {}
        sites: dict[str, set[int]] = {}
        for part in self.group.gather_objects(found):
            for name, bad in part.items():
                sites.setdefault(name, set()).update(bad)
        return {name: sorted(bad) for name, bad in sites.items()}

    def validate(self, on_batch: Callable[[int], None]) -> float:
        if not len(self.validation_data):
            return math.nan
        x, y = self.group.share(self.validation_data.x), self.group.share(self.validation_data.y)
        total = 0.0
        if len(x):
            seed = self.group.seed(self.schedule.seed)
            total = self.log_likelihood_of(self.model, Split(x, y), on_batch, seed).sum().item()
        return self.group.sum([total])[0] / len(self.validation_data)
