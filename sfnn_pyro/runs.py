"""A run folder: what was trained, how, and what came of it.

``config.json`` says how, ``model.pt`` holds the parameters, ``history.csv`` the epochs,
``evaluation-*.json`` the results. Nothing in it executes code when it is read.
"""

import csv
import io
import json
import pickle
import platform
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import pyro
import torch

from sfnn_pyro.data import Dataset, load_dataset
from sfnn_pyro.estimators import ESTIMATORS, Estimator
from sfnn_pyro.files import replacing, write_text
from sfnn_pyro.models import SFNN
from sfnn_pyro.reparam import deterministic
from sfnn_pyro.training import Epoch, Schedule

FORMAT = "sfnn_pyro model 1"
NETWORKS = ("sfnn", "deterministic")


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
        if self.particles < 1:
            raise RunError(f"particles={self.particles}: at least one particle is needed")
        if not self.hidden or min(self.hidden) < 1:
            raise RunError(f"hidden={list(self.hidden)}: give at least one width, each 1 or more")

    def load_data(self) -> Dataset:
        return load_dataset(self.data)

    def make_model(self, data: Dataset) -> SFNN:
        """The network that fits the data, freshly initialised from the schedule's seed."""
        with torch.random.fork_rng():
            torch.manual_seed(self.schedule.seed)
            return SFNN([data.x_size, *self.hidden, data.y_size], data.likelihood)

    def make_estimator(self) -> Estimator:
        return ESTIMATORS[self.estimator](num_particles=self.particles)

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
        except json.JSONDecodeError as error:
            raise RunError(f"the configuration is not JSON ({error})") from error
        _check_map(raw)
        schedule = Schedule(**_typed(raw.pop("schedule", {}), Schedule))
        hidden = tuple(raw.pop("hidden", RunConfig.hidden))
        return RunConfig(hidden=hidden, schedule=schedule, **_typed(raw, RunConfig))


def save_model(model: SFNN, config: RunConfig, path: Path) -> None:
    """Writes parameters and configuration to one file, whole or not at all."""
    contents = {"format": FORMAT, "config": config.to_json(), "state": model.state_dict()}
    with replacing(path) as file:
        torch.save(contents, file)


def load_model(folder: Path) -> tuple[SFNN, RunConfig, Dataset]:
    """The trained model of a run folder, its configuration and its data.

    Raises:
        RunError: the folder holds no model, or the file is not one of this package.
    """
    path = folder / "model.pt"
    if not path.is_file():
        raise RunError(f"{folder} holds no model.pt: give the folder that 'sfnn train' wrote")
    try:
        contents = torch.load(path, weights_only=True)
        if contents["format"] != FORMAT:
            raise RunError(f"{path} has format {contents['format']!r}, this is {FORMAT!r}")
        config = RunConfig.from_json(contents["config"])
        data = config.load_data()
        model = config.make_model(data)
        model.load_state_dict(contents["state"])
    except (
        pickle.UnpicklingError,
        zipfile.BadZipFile,
        RuntimeError,
        KeyError,
        EOFError,
        TypeError,
    ) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RunError(f"{path} is not a whole model file ({first}): train again") from error
    return model, config, data


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


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise RunError(f"{name}={value!r}: choose one of {', '.join(choices)}")


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
