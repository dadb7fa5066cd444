"""A run folder: what was trained, how, and what came of it.

``config.json`` says how, ``history.csv`` holds the epochs, ``best.pt`` the model that was best on
the validation data, and ``evaluation-*.json`` the results. ``model.pt`` is there once the training
is complete; until then there is ``checkpoint.pt``, from which it goes on. Nothing in the folder
executes code when it is read.
"""

import csv
import io
import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyro
import torch

from sfnn_pyro.data import Dataset, load_dataset
from sfnn_pyro.estimators import ESTIMATORS, Estimator
from sfnn_pyro.guides import PriorProposal
from sfnn_pyro.models import SFNN
from sfnn_pyro.reparam import deterministic
from sfnn_pyro.system.atomic_files import write_text
from sfnn_pyro.system.sealed_files import read_sealed, write_sealed
from sfnn_pyro.training import Epoch, Schedule, Trainer

MODEL_KIND = "model 1"
NETWORKS = ("sfnn", "deterministic")
MAX_PARTICLES = 10**9
BYTES_PER_PARAMETER = 12  # itself, its gradient and its momentum, float32


class RunError(ValueError):
    """A run folder that cannot be used; the message names the file and the way out."""


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
            validation_particles=min(self.particles, 20),
        )

    def program(self, model: SFNN) -> Any:
        """The model as this network runs it: as it is, or with every latent at its mean."""
        return deterministic(model) if self.network == "deterministic" else model

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2) + "\n"

    @staticmethod
    def from_json(text: str) -> "RunConfig":
        """Reads a configuration; an unknown key or a value of another type is an error."""
        try:
            raw = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise RunError(f"the configuration is not JSON ({error})") from error
        _check_map(raw)
        schedule = Schedule(**_typed(raw.pop("schedule", {}), Schedule))
        hidden = raw.pop("hidden", list(RunConfig.hidden))
        if not isinstance(hidden, list) or any(type(width) is not int for width in hidden):
            raise RunError(f"hidden={hidden!r} in the configuration: expected whole numbers")
        return RunConfig(hidden=tuple(hidden), schedule=schedule, **_typed(raw, RunConfig))


def read_config(folder: Path) -> RunConfig:
    """The configuration of a run folder.

    Raises:
        RunError: the folder holds none, or one that does not say how to train.
    """
    path = folder / "config.json"
    try:
        return RunConfig.from_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RunError(
            f"{path} cannot be read ({error.strerror or error}): give the folder that "
            "'sfnn train' wrote"
        ) from error
    except ValueError as error:
        raise RunError(f"{path}: {error}") from error


def save_model(model: SFNN, config: RunConfig, data: Dataset, path: Path) -> None:
    """Writes parameters, configuration and the data's provenance to one file, whole or not."""
    contents = {
        "config": config.to_json(),
        "provenance": dict(data.provenance),
        "state": model.state_dict(),
    }
    write_sealed(path, MODEL_KIND, contents)


def load_model(run: Path) -> tuple[SFNN, RunConfig, Dataset]:
    """The trained model of a run, its configuration and its data.

    Arguments:
        run: a run folder, for its ``model.pt``; or a model file, such as its ``best.pt``.

    Raises:
        RunError: the folder holds no model, or the file is not one of this package.
        SealError: the file is another, cut or altered.
    """
    path = run / "model.pt" if run.is_dir() else run
    if not path.is_file():
        raise RunError(_why_no_model(run))
    contents = read_sealed(path, MODEL_KIND)
    try:
        config = RunConfig.from_json(contents["config"])
        data = config.load_data()
        check_provenance(contents["provenance"], data, path)
        model = config.make_model(data)
        model.load_state_dict(contents["state"])
    except (RuntimeError, KeyError, TypeError, AttributeError) as error:
        first = str(error).partition("\n")[0]
        raise RunError(f"{path} does not hold a whole model ({first}): train again") from error
    return model, config, data


def check_provenance(stored: Mapping[str, Any], data: Dataset, path: Path) -> None:
    """Refuses a file that was written with other data than those at hand."""
    for name in stored.keys() & data.provenance.keys():
        if stored[name] != data.provenance[name]:
            raise RunError(
                f"{path} was trained on other {data.name} data: {name} was {stored[name]!r} and "
                f"is {data.provenance[name]!r}; give it the same data, or train again"
            )


def write_history(history: Sequence[Epoch], path: Path) -> None:
    """Writes the epochs as CSV, one line each."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [f.name for f in fields(Epoch)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(epoch) for epoch in history)
    write_text(path, text.getvalue())


def machine() -> dict[str, str | int]:
    """Versions and machine, for the record beside a result."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "pyro": pyro.__version__,
        "processor": _processor(),
        "threads": torch.get_num_threads(),
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _why_no_model(run: Path) -> str:
    if (run / "config.json").is_file():
        return f"{run} holds no model.pt yet: complete it with 'sfnn train --resume {run}'"
    return f"{run} holds no model.pt: give the folder that 'sfnn train' wrote"


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


def _check_map(raw: Any) -> None:
    if not isinstance(raw, dict):
        raise RunError("the configuration is not a table of names and values")


def _typed(raw: Any, kind: type) -> dict[str, Any]:
    """The entries of a table, after checking their names and types against a dataclass."""
    _check_map(raw)
    known = {f.name: f.type for f in fields(kind)}
    for name, value in raw.items():
        if name not in known:
            raise RunError(f"unknown key {name!r} in the configuration; known: {', '.join(known)}")
        expected = known[name]
        if expected is float and type(value) is int:
            continue
        if isinstance(expected, type) and type(value) is not expected:
            raise RunError(f"{name}={value!r} in the configuration: expected {expected.__name__}")
    return raw
