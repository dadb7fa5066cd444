"""The configuration of a run: everything that determines a training, and how it is built."""

import json
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from pyro.infer import ELBO

from sfnn_pyro.data import DATASET_NAMES, DataError, Dataset, OwnData, load_dataset, load_own
from sfnn_pyro.data.own import checksum_of
from sfnn_pyro.data.own.task import second_file
from sfnn_pyro.estimators import ESTIMATORS, Compiled, Resampled
from sfnn_pyro.runs.building import (
    build_estimator,
    build_network,
    build_proposal,
    program_of,
)
from sfnn_pyro.runs.choices import (
    LEAVE_GUIDE,
    PROPOSALS,
    RunError,
    accepts,
    check_combinations,
    check_values,
)
from sfnn_pyro.runs.run_data import adapted, own_path, training_data
from sfnn_pyro.runs.tables import read_table
from sfnn_pyro.system.memory import available_memory, check_memory
from sfnn_pyro.training import OPTIMIZERS, Schedule, Trainer

BYTES_PER_UNIT = 4  # of every particle of a minibatch, float32
BYTES_PER_PARAMETER = 12  # itself, its gradient and its momentum, float32


@dataclass(frozen=True)
class RunConfig:
    """Everything that determines a training.

    Arguments:
        data: a name that ``load_dataset`` knows, or the path of a file or folder for ``load_own``.
        network: ``"sfnn"``; ``"deterministic"``, ``"hybrid"`` or ``"coins"`` for the paper's
            networks A, C and D.
        hidden: widths of the hidden layers.
        estimator: a name in ``ESTIMATORS``.
        particles: M.
        schedule: how long and how fast.
        proposal: ``"prior"``; or ``"recognition"`` for a recognition network that is trained
            beside the network; or ``"mixture"`` of the two, half of the particles of each.
        stochastic: stochastic units in each hidden layer of the networks C and D.
        encoder: units of a learned proposal's encoder; 0 for none.
        insomnia: of ``ReweightedWakeSleep``.
        kept: how many particles are back-propagated (``Resampled``); 0 for all.
        likelihood: of the targets; that of the data if empty.
        binarise: when grey values of the training data are sampled as 0 or 1: ``"once"``,
            ``"epoch"`` for anew in every epoch, or ``"none"``; as the data have it if empty.
        noise: standard deviation of Gaussian noise on the training inputs, anew each epoch.
        optimizer: a name in ``OPTIMIZERS``.
        ema: decay of a moving average of the parameters, which is what is validated and kept; 0
            for none.
        patience: number of epochs without a better validation after which the training ends; 0
            for never.
        precision: of the training's matrix products, ``"float32"`` or ``"bfloat16"``.
        own: what is chosen about a file of one's own.
        compile: whether to record and compile the step, see ``Compiled``: a part of the
            configuration, as sums are rounded in another order.

    Raises:
        RunError: a value is none of the known ones, or two of them exclude each other.
    """

    data: str = "digits"
    network: str = "sfnn"
    hidden: tuple[int, ...] = (200, 200)
    estimator: str = "g3"
    particles: int = 20
    schedule: Schedule = field(default_factory=Schedule)
    proposal: str = "prior"
    stochastic: int = 40
    encoder: int = 200
    insomnia: float = 1.0
    kept: int = 0
    likelihood: str = ""
    binarise: str = ""
    noise: float = 0.0
    optimizer: str = "sgd"
    ema: float = 0.0
    patience: int = 0
    precision: str = "float32"
    own: OwnData = field(default_factory=OwnData)
    compile: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.hidden, list):
            object.__setattr__(self, "hidden", tuple(self.hidden))
        check_values(self)
        check_combinations(self)
        if self.proposal != "prior" and self.estimator in LEAVE_GUIDE:
            raise RunError(
                f"proposal={self.proposal!r}: the estimator {self.estimator} would leave it as it "
                "was initialised; give --estimator rws, which trains both, or leave --proposal out"
            )
        if not accepts(self.estimator, self.proposal):
            fitting = [name for name in PROPOSALS if accepts(self.estimator, name)]
            raise RunError(
                f"proposal={self.proposal!r}: the estimator {self.estimator} does not take it; "
                f"choose {' or '.join(fitting)}, or another estimator"
            )

    @property
    def is_own(self) -> bool:
        """Whether the data are a file or folder of one's own."""
        return self.data not in DATASET_NAMES

    def pinned(self) -> "RunConfig":
        """The same configuration with the absolute path and the checksum of a file of one's own.

        Raises:
            DataError: there is no such file.
        """
        if not self.is_own:
            return self
        path = own_path(self.data).absolute()
        second = second_file(self.own)
        own = self.own if second is None else replace(self.own, y=str(second.absolute()))
        if not own.sha256:
            own = replace(own, sha256=checksum_of(path, second))
        return replace(self, data=str(path), own=own)

    def with_data_at(self, place: str | Path) -> "RunConfig":
        """The same configuration after the file or folder of one's own was moved.

        Arguments:
            place: where it is now. A second file, of the target, is looked for beside it where it
                is no longer where it was.

        Raises:
            DataError: the data are no file or folder of one's own.
        """
        if not self.is_own:
            raise DataError(
                f"data={str(place)!r}: the run was trained on the data set {self.data}, which is "
                "found by its name; leave --data out"
            )
        if not str(place).strip():
            raise DataError(f"data={str(place)!r} is empty: name a file or a folder")
        path, own, second = Path(place).absolute(), self.own, second_file(self.own)
        if second is not None and not second.exists():
            own = replace(own, y=str(path.with_name(second.name)))
        return replace(self, data=str(path), own=own)

    def is_same_training(self, other: "RunConfig") -> bool:
        """Whether another configuration is this one, wherever the data of both are."""
        mine, own = self.own, other.own
        if self.is_own and other.is_own and mine.sha256 and mine.sha256 == own.sha256:
            if second_file(mine) is not None and second_file(own) is not None:
                own = replace(own, y=mine.y)
            other = replace(other, data=self.data, own=own)
        return self == other

    def load_data(self) -> Dataset:
        """The data, under the likelihood of the configuration.

        Raises:
            DataError: they are not here, or another file than the one that was trained on.
        """
        if self.is_own:
            self._check_place()
            return load_own(
                own_path(self.data),
                self.own,
                likelihood=self.likelihood,
                binarisation=self.binarise,
            )
        return adapted(load_dataset(self.data), self.likelihood, self.binarise)

    def _check_place(self) -> None:
        """Refuses data that were moved since their checksum was recorded."""
        for path in (own_path(self.data), second_file(self.own)):
            if self.own.sha256 and path is not None and not path.exists():
                raise DataError(
                    f"{path} does not exist: give the place to which the data of the run were "
                    "moved with --data (in Python, load_run(run, data=PLACE))"
                )

    def make_model(self, data: Dataset) -> Any:
        """The network that fits the data, freshly initialised from the schedule's seed."""
        sizes = [data.x_size, *self.hidden, data.y_size]
        _check_memory(sizes)
        return build_network(
            self.network,
            sizes,
            data.likelihood,
            stochastic=self.stochastic,
            seed=self.schedule.seed,
        )

    def make_estimator(self) -> ELBO:
        """The estimator, its step compiled if asked for, a few of its particles back-propagated.

        Raises:
            ValueError: it cannot be with so many particles.
        """
        estimator = build_estimator(self.estimator, self.particles, insomnia=self.insomnia)
        if self.kept:
            try:
                estimator = Resampled(estimator, self.kept)
            except ValueError as error:
                raise RunError(f"kept={self.kept}: {error}; leave --kept out") from error
        if not self.compile:
            return estimator
        try:
            return Compiled(estimator)
        except ValueError as error:
            raise RunError(f"compile: {error}; leave --compile out") from error

    def make_trainer(self, model: Any, data: Dataset) -> Trainer:
        program = self.program(model)
        guide = self.make_guide(model, program)
        if self.patience and not len(data.validation):
            raise RunError(
                f"patience={self.patience}: there are no validation data to improve on; leave "
                "--patience out, or give a --validation share"
            )
        learned = guide.parameters() if self.proposal != "prior" else ()
        return Trainer(
            model=program,
            guide=guide,
            estimator=self.make_estimator(),
            parameters=list(dict.fromkeys([*model.parameters(), *learned])),
            train_data=training_data(data, self.schedule.seed, self.binarise, self.noise),
            validation_data=data.validation,
            schedule=self.schedule,
            validation_particles=validation_particles(self.particles),
            make_optimizer=OPTIMIZERS[self.optimizer],
            ema=self.ema,
        )

    def make_guide(self, model: Any, program: Any) -> Any:
        """The proposal for a program of a model; a learned one is initialised from the seed."""
        return build_proposal(
            self.proposal, model, program, encoder=self.encoder, seed=self.schedule.seed
        )

    def check_memory_of_training(self, data: Dataset) -> None:
        """Refuses a network, a step's hidden units or a learned proposal too large for the memory.

        Arguments:
            data: the data set, for its widths.
        """
        _check_memory([data.x_size, *self.hidden, data.y_size])
        count = self.particles * self.schedule.batch_size * sum(self.hidden)
        check_memory(
            BYTES_PER_UNIT * count,
            f"particles={self.particles}, batch_size={self.schedule.batch_size}, "
            f"hidden={list(self.hidden)}",
            "give fewer --particles, a smaller --batch-size or --hidden",
            RunError,
        )
        if self.proposal != "prior":
            widths = data.x_size + data.y_size + sum(self.hidden)
            check_memory(
                BYTES_PER_PARAMETER * self.encoder * widths,
                f"encoder={self.encoder}, hidden={list(self.hidden)}",
                "give a smaller --encoder or --hidden",
                RunError,
            )

    def program(self, model: Any) -> Any:
        """The model as this network runs it: as it is, or with every latent at its mean."""
        return program_of(self.network, model)

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2, allow_nan=False, default=_plain) + "\n"

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


def proposal_for(estimator: str) -> str:
    """The proposal of an estimator for which none was chosen: the prior, where it is taken.

    Example:
        >>> proposal_for("g3"), proposal_for("rws")
        ('prior', 'recognition')
    """
    known = estimator in ESTIMATORS  # another is refused elsewhere
    return "recognition" if known and not accepts(estimator, "prior") else "prior"


def _check_memory(sizes: list[int]) -> None:
    count = sum((n_in + 1) * n_out for n_in, n_out in pairwise(sizes))
    memory = available_memory()
    if count * BYTES_PER_PARAMETER > memory:
        raise RunError(
            f"hidden={sizes[1:-1]}: its {count:,} parameters do not fit this machine's memory of "
            f"{memory / 2**30:.0f} GiB: give smaller widths"
        )


def _plain(number: Any) -> Any:
    """A number of NumPy as JSON has it."""
    return number.item()
