"""Saved models: the file of a trained network, which any reader of safetensors opens."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sfnn_pyro.data import DataError, Dataset
from sfnn_pyro.runs.choices import RunError
from sfnn_pyro.runs.configuration import RunConfig
from sfnn_pyro.system.arguments import check_object, given_path
from sfnn_pyro.system.numbers import shown
from sfnn_pyro.system.sealed_files import is_sealed, read_sealed
from sfnn_pyro.system.shell_words import command
from sfnn_pyro.system.weight_files import read_weights, write_weights
from sfnn_pyro.training.stored_state import stored_tensors

KIND = "model"
GUIDE_PREFIX = "guide:"
"""Stands before the names of a learned proposal's tensors."""

MODEL_FILES = ("model.safetensors", "model.pt")
"""The trained model of a run folder: as it is written, and as the first format named it."""


@dataclass(frozen=True)
class SavedRun:
    """A trained network and what it was trained with.

    Arguments:
        model: the network.
        guide: its proposal: the prior, or the one that was learned beside it.
        config: how it was trained.
        data: what it was trained on.
    """

    model: Any
    guide: Any
    config: RunConfig
    data: Dataset

    @property
    def program(self) -> Any:
        """The model as its configuration runs it: as it is, or with every latent at its mean."""
        return self.config.program(self.model)


def save(run: SavedRun, path: str | Path) -> None:
    """Writes a trained network to one file, whole or not at all.

    The file is of the safetensors format: ``safetensors.torch.load_file(path)`` gives the weights
    without this package, as ``layers.0.weight`` and so on, those of a learned proposal under names
    that begin with ``guide:``. Its metadata are ``kind``, ``config`` and ``provenance``, the last
    two as JSON, and ``sha256``.

    Arguments:
        run: the network, its proposal, its configuration and its data.
        path: of the file.

    Raises:
        WriteError: it cannot be written; what was there is unchanged.

    Example:
        >>> import tempfile
        >>> from safetensors.torch import load_file
        >>> path = Path(tempfile.mkdtemp()) / "model.safetensors"
        >>> config = RunConfig(hidden=(5,))
        >>> data = config.load_data()
        >>> model = config.make_model(data)
        >>> save(SavedRun(model, config.make_guide(model, model), config, data), path)
        >>> sorted(load_file(path))
        ['layers.0.bias', 'layers.0.weight', 'layers.1.bias', 'layers.1.weight']
    """
    check_object("run", run, SavedRun, "give SavedRun(model, guide, config, data)", RunError)
    path = given_path("path", path)
    tensors = dict(run.model.state_dict())
    if run.config.proposal != "prior":
        tensors |= {GUIDE_PREFIX + name: one for name, one in run.guide.state_dict().items()}
    provenance = json.dumps(dict(run.data.provenance), sort_keys=True)
    write_weights(path, KIND, tensors, {"config": run.config.to_json(), "provenance": provenance})


def load_run(path: str | Path, data: str | Path | None = None) -> SavedRun:
    """The trained network of a run, its proposal, its configuration and its data.

    Arguments:
        path: a run folder, for its trained model; or a model file, such as its
            ``best.safetensors``. Files of the first format (``model.pt``) are read too.
        data: where the run's own file or folder of data is now, if it was moved since; its checksum
            must be the recorded one.

    Raises:
        RunError: the folder holds no model, or the file not a whole one.
        SealError: the file is another, cut or altered.
        DataError: its data are not at hand.

    Example:
        >>> import tempfile
        >>> from sfnn_pyro.runs import train_run
        >>> from sfnn_pyro.training import Schedule
        >>> folder = tempfile.mkdtemp()
        >>> config = RunConfig(hidden=(5,), particles=2, schedule=Schedule(epochs=1))
        >>> _ = train_run(config, Path(folder))
        >>> load_run(folder).model.sizes
        [32, 5, 32]
    """
    path = given_path("path", path)
    file = model_file(path) if path.is_dir() else path
    if file is None or not file.is_file():
        raise RunError(_why_no_model(path))
    contents = _read(file)
    try:
        config = RunConfig.from_json(contents["config"])
        config = config if data is None else config.with_data_at(data)
        loaded = config.load_data()
        check_provenance(contents["provenance"], loaded, file)
        model = config.make_model(loaded)
        _load(model, "state", contents["state"])
        guide = config.make_guide(model, config.program(model))
        if config.proposal != "prior":
            _load(guide, "guide", contents["guide"])
    except (RunError, DataError):
        raise
    except (RuntimeError, KeyError, TypeError, AttributeError, ValueError) as error:
        first = str(error).partition("\n")[0]
        raise RunError(f"{file} does not hold a whole model ({first}): train again") from error
    return SavedRun(model, guide, config, loaded)


def load_model(run: str | Path, data: str | Path | None = None) -> tuple[Any, RunConfig, Dataset]:
    """The network, configuration and data of ``load_run``."""
    saved = load_run(run, data)
    return saved.model, saved.config, saved.data


def model_file(folder: Path) -> Path | None:
    """The file of a run folder that holds the trained model; None while there is none."""
    return next((folder / name for name in MODEL_FILES if (folder / name).exists()), None)


def check_provenance(stored: Mapping[str, Any], data: Dataset, path: Path) -> None:
    """Refuses a file that was written with other data than those at hand."""
    names = stored.keys() & data.provenance.keys()
    if stored.get("source_sha256") == data.provenance.get("source_sha256"):
        names -= {"source"}  # the same file under another name
    for name in names:
        was, now = stored[name], data.provenance[name]
        if type(was) is not type(now) or was != now:
            before = "a tensor" if torch.is_tensor(was) else shown(was)
            raise RunError(
                f"{path} was trained on other {data.name} data: {name} was {before} and "
                f"is {shown(now)}; give it the same data, or train again"
            )


def _read(file: Path) -> dict[str, Any]:
    """The parts of a model's file, of either format, by their names in the first."""
    if is_sealed(file):
        return read_sealed(file, KIND)
    tensors, metadata = read_weights(file, KIND)
    state: dict[str, Tensor] = {}
    guide: dict[str, Tensor] = {}
    for name, value in tensors.items():
        if name.startswith(GUIDE_PREFIX):
            guide[name.removeprefix(GUIDE_PREFIX)] = value
        else:
            state[name] = value
    try:
        provenance = json.loads(metadata["provenance"])
        config = metadata["config"]
    except (LookupError, ValueError, RecursionError) as error:
        first = str(error).partition("\n")[0]
        raise RunError(f"{file} does not hold a whole model ({first}): train again") from error
    return {"config": config, "provenance": provenance, "state": state, "guide": guide}


def _load(module: nn.Module, name: str, stored: Any) -> None:
    # Models are written in float32; PyTorch's default dtype here may be another.
    like = {key: value.to(torch.float32) for key, value in module.state_dict().items()}
    module.load_state_dict(stored_tensors(name, stored, like))


def _why_no_model(run: Path) -> str:
    if (run / "config.json").is_file():
        resumed = command("sfnn", "train", "--resume", run)
        return f"{run} holds no {MODEL_FILES[0]} yet: complete it with {resumed}"
    return f"{run} holds no {MODEL_FILES[0]}: give the folder that 'sfnn train' wrote"
