"""The configuration of a run: everything that determines a training, and how it is built."""

import json
import os
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

import torch

from sfnn_pyro.data import Dataset, load_dataset
from sfnn_pyro.estimators import ESTIMATORS, Estimator
from sfnn_pyro.guides import PriorProposal
from sfnn_pyro.models import SFNN
from sfnn_pyro.reparam import deterministic
from sfnn_pyro.runs.tables import read_table
from sfnn_pyro.training import Schedule, Trainer

NETWORKS = ("sfnn", "deterministic")
MAX_PARTICLES = 10**9
BYTES_PER_PARAMETER = 12  # itself, its gradient and its momentum, float32


class RunError(ValueError):
    """A run that cannot be configured or resumed; the message names the file and the way out."""


@dataclass(frozen=True)
class RunConfig:
    """Everything that determines a training.

    Arguments:
        data: a name that ``load_dataset`` knows.
        network: ``"sfnn"``, or ``"deterministic"`` for the paper's network A.
        hidden: widths of the hidden layers.
        estimator: a name in ``ESTIMATORS``.
        particles: M.
        schedule: how long and how fast.

    Raises:
        RunError: a value is none of the known ones.
    """

    data: str = "digits"
    network: str = "sfnn"
    hidden: tuple[int, ...] = (200, 200)
    estimator: str = "g3"
    particles: int = 20
    schedule: Schedule = field(default_factory=Schedule)

    def __post_init__(self) -> None:
        _check_choice("network", self.network, NETWORKS)
        _check_choice("estimator", self.estimator, tuple(ESTIMATORS))
        if not 1 <= self.particles <= MAX_PARTICLES:
            raise RunError(f"particles={self.particles}: must lie between 1 and {MAX_PARTICLES}")
        if not self.hidden or min(self.hidden) < 1:
            raise RunError(f"hidden={list(self.hidden)}: give at least one width, each 1 or more")

    def load_data(self) -> Dataset:
        return load_dataset(self.data)

    def make_model(self, data: Dataset) -> SFNN:
        """The network that fits the data, freshly initialised from the schedule's seed."""
        sizes = [data.x_size, *self.hidden, data.y_size]
        _check_memory(sizes)
        with torch.random.fork_rng():
            torch.manual_seed(self.schedule.seed)
            return SFNN(sizes, data.likelihood)

    def make_estimator(self) -> Estimator:
        return ESTIMATORS[self.estimator](num_particles=self.particles)

    def make_trainer(self, model: SFNN, data: Dataset) -> Trainer:
        program = self.program(model)
        return Trainer(
            model=program,
            guide=PriorProposal(program),
            estimator=self.make_estimator(),
            parameters=list(model.parameters()),
            train_data=data.train,
            validation_data=data.validation,
            schedule=self.schedule,
            validation_particles=validation_particles(self.particles),
        )

    def program(self, model: SFNN) -> Any:
        """The model as this network runs it: as it is, or with every latent at its mean."""
        return deterministic(model) if self.network == "deterministic" else model

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2) + "\n"

    @staticmethod
    def from_json(text: str) -> "RunConfig":
        """Reads a configuration; an unknown key or a value of another type is an error.

        Example:
            >>> RunConfig.from_json('{"particles": 5}').particles
            5
        """
        try:
            raw = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise RunError(f"the configuration is not JSON ({error})") from error
        return read_table(RunConfig, raw, RunError, " in the configuration")


def validation_particles(particles: int) -> int:
    """M of the validation after each epoch, for a training with so many particles."""
    return min(particles, 20)


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise RunError(f"{name}={value!r}: choose one of {', '.join(choices)}")


def _check_memory(sizes: list[int]) -> None:
    count = sum((n_in + 1) * n_out for n_in, n_out in pairwise(sizes))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if count * BYTES_PER_PARAMETER > memory:
        raise RunError(
            f"hidden={sizes[1:-1]}: its {count:,} parameters do not fit this machine's memory of "
            f"{memory / 2**30:.0f} GiB: give smaller widths"
        )
