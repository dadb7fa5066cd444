"""The configuration of a run: everything that determines a training, and how it is built."""

import json
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

import torch

from sfnn_pyro.data import Dataset, load_dataset
from sfnn_pyro.estimators import ESTIMATORS, Compiled, Estimator
from sfnn_pyro.guides import MixtureProposal, PriorProposal, RecognitionNetwork
from sfnn_pyro.models import SFNN
from sfnn_pyro.reparam import deterministic
from sfnn_pyro.runs.tables import read_table
from sfnn_pyro.system.memory import available_memory, check_memory
from sfnn_pyro.system.numbers import check_whole
from sfnn_pyro.training import Schedule, Trainer

NETWORKS = ("sfnn", "deterministic")
PROPOSALS = ("prior", "recognition", "mixture")
MAX_PARTICLES = 10**9
MAX_WIDTH = 2**40
BYTES_PER_UNIT = 4  # of every particle of a minibatch, float32
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
        proposal: ``"prior"``; or ``"recognition"`` for a recognition network that is trained
            beside the network; or ``"mixture"`` of the two, half of the particles of each.
        compile: whether to record and compile the step, see ``Compiled``: a part of the
            configuration, as sums are rounded in another order.

    Raises:
        RunError: a value is none of the known ones.
    """

    data: str = "digits"
    network: str = "sfnn"
    hidden: tuple[int, ...] = (200, 200)
    estimator: str = "g3"
    particles: int = 20
    schedule: Schedule = field(default_factory=Schedule)
    proposal: str = "prior"
    compile: bool = False

    def __post_init__(self) -> None:
        _check_choice("network", self.network, NETWORKS)
        _check_choice("estimator", self.estimator, tuple(ESTIMATORS))
        _check_choice("proposal", self.proposal, PROPOSALS)
        check_whole("particles", self.particles, 1, MAX_PARTICLES, RunError)
        for width in self.hidden:
            check_whole("hidden: the width", width, None, MAX_WIDTH, RunError)
        if not self.hidden or min(self.hidden) < 1:
            raise RunError(f"hidden={list(self.hidden)}: give at least one width, each 1 or more")
        if self.proposal != "prior" and self.network == "deterministic":
            raise RunError(
                f"proposal={self.proposal!r}: a deterministic network has no hidden units to "
                "propose; leave --proposal out, or train --network sfnn"
            )
        if not _accepts(self.estimator, self.proposal):
            fitting = [name for name in PROPOSALS if _accepts(self.estimator, name)]
            raise RunError(
                f"proposal={self.proposal!r}: the estimator {self.estimator} does not take it; "
                f"choose {' or '.join(fitting)}, or another estimator"
            )

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
        estimator = ESTIMATORS[self.estimator](num_particles=self.particles)
        return Compiled(estimator) if self.compile else estimator

    def make_trainer(self, model: SFNN, data: Dataset) -> Trainer:
        program = self.program(model)
        guide = self.make_guide(model, program)
        self._check_memory_of_step()
        learned = guide.parameters() if self.proposal != "prior" else ()
        return Trainer(
            model=program,
            guide=guide,
            estimator=self.make_estimator(),
            parameters=list(dict.fromkeys([*model.parameters(), *learned])),
            train_data=data.train,
            validation_data=data.validation,
            schedule=self.schedule,
            validation_particles=validation_particles(self.particles),
        )

    def make_guide(self, model: SFNN, program: Any) -> Any:
        """The proposal for a program of a model; a learned one is initialised from the seed."""
        prior = PriorProposal(program)
        if self.proposal == "prior":
            return prior
        with torch.random.fork_rng():
            torch.manual_seed(self.schedule.seed)
            recognition = RecognitionNetwork(model).to(next(model.parameters()))
        return (
            recognition if self.proposal == "recognition" else MixtureProposal(prior, recognition)
        )

    def _check_memory_of_step(self) -> None:
        """Refuses a step whose hidden units alone do not fit the memory."""
        count = self.particles * self.schedule.batch_size * sum(self.hidden)
        check_memory(
            BYTES_PER_UNIT * count,
            f"particles={self.particles}, batch_size={self.schedule.batch_size}, "
            f"hidden={list(self.hidden)}",
            "give fewer --particles, a smaller --batch-size or --hidden",
            RunError,
        )

    def program(self, model: SFNN) -> Any:
        """The model as this network runs it: as it is, or with every latent at its mean."""
        return deterministic(model) if self.network == "deterministic" else model

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2, allow_nan=False) + "\n"

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


def _accepts(estimator: str, proposal: str) -> bool:
    """Whether an estimator takes a proposal."""
    accepted = ESTIMATORS[estimator].proposals
    if proposal == "mixture":
        return "mixture" in accepted
    return ("prior" if proposal == "prior" else "guide") in accepted


def proposal_for(estimator: str) -> str:
    """The proposal of an estimator for which none was chosen: the prior, where it is taken.

    Example:
        >>> proposal_for("g3"), proposal_for("rws")
        ('prior', 'recognition')
    """
    known = estimator in ESTIMATORS  # another is refused elsewhere
    return "recognition" if known and not _accepts(estimator, "prior") else "prior"


def _check_memory(sizes: list[int]) -> None:
    count = sum((n_in + 1) * n_out for n_in, n_out in pairwise(sizes))
    memory = available_memory()
    if count * BYTES_PER_PARAMETER > memory:
        raise RunError(
            f"hidden={sizes[1:-1]}: its {count:,} parameters do not fit this machine's memory of "
            f"{memory / 2**30:.0f} GiB: give smaller widths"
        )
