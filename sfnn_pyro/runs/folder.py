"""A run folder: what was trained, how, and with what result.

``config.json`` holds the configuration, ``history.csv`` the epochs, ``best.pt`` the model that was
best on the validation data, and ``evaluation-*.json`` the results. ``model.pt`` is there once the
training is complete; until then there is ``checkpoint.pt``, from which it resumes. Nothing in the
folder executes code when it is read.
"""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import filelock
import torch
from torch import nn

from sfnn_pyro.data import DataError, Dataset
from sfnn_pyro.models import SFNN
from sfnn_pyro.runs.configuration import RunConfig, RunError
from sfnn_pyro.system.atomic_files import WriteError, check_target, made_folder, write_text
from sfnn_pyro.system.numbers import shown
from sfnn_pyro.system.regular_files import read_regular
from sfnn_pyro.system.sealed_files import read_sealed, write_sealed
from sfnn_pyro.system.shell_words import command
from sfnn_pyro.training import Epoch
from sfnn_pyro.training.stored_state import stored_tensors

MODEL_KIND = "model 1"

HISTORY_LIMIT = 2**30
"""Bytes of a history, of some ten million epochs."""

CONFIG_LIMIT = 2**20
"""Bytes of a configuration file."""


class RunInUseError(RunError):
    """A run that another process is training."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps other processes out of a run folder.

    Raises:
        RunInUseError: another process is in it.
        WriteError: it cannot be made or written.

    Example:
        >>> import tempfile
        >>> with locked(Path(tempfile.mkdtemp())):
        ...     pass
    """
    path = folder / ".lock"
    with _made(folder):
        names = {one.name for one in folder.iterdir()}
        check_target(path)
        lock = filelock.FileLock(path, timeout=0)
        try:
            lock.acquire()
        except filelock.Timeout as error:
            raise RunInUseError(
                f"{folder} is in use by another process: wait until it ends, or give another folder"
            ) from error
        except OSError as error:
            raise _unusable(folder, error) from error
        try:
            yield
        except BaseException:
            if {one.name for one in folder.iterdir()} - names == {path.name}:
                path.unlink()  # a false start leaves nothing
            raise
        finally:
            lock.release()


@contextmanager
def _made(folder: Path) -> Iterator[None]:
    """Makes a run folder, and removes it if the block leaves nothing in it and fails."""
    with ExitStack() as stack:
        try:
            stack.enter_context(made_folder(folder))
        except OSError as error:
            raise _unusable(folder, error) from error
        yield


def _unusable(folder: Path, error: OSError) -> WriteError:
    return WriteError(
        f"{folder} cannot be used ({error.strerror or error}): give a folder that can be written"
    )


def read_config(folder: Path) -> RunConfig:
    """The configuration of a run folder.

    Raises:
        RunError: the folder holds none, or one that does not say how to train.
    """
    path = folder / "config.json"
    try:
        return RunConfig.from_json(read_regular(path, CONFIG_LIMIT).decode("utf-8"))
    except OSError as error:
        raise RunError(
            f"{path} cannot be read ({error.strerror or error}): give the folder that "
            "'sfnn train' wrote"
        ) from error
    except ValueError as error:
        raise RunError(f"{path}: {error}") from error


def save_model(
    model: SFNN, config: RunConfig, data: Dataset, path: Path, guide: Any = None
) -> None:
    """Writes parameters, configuration and the data's provenance to one file, whole or not.

    Arguments:
        model: the network.
        config: its configuration.
        data: what it was trained on.
        path: of the file.
        guide: the learned proposal, if the configuration has one.
    """
    contents: dict[str, Any] = {
        "config": config.to_json(),
        "provenance": dict(data.provenance),
        "state": model.state_dict(),
    }
    if config.proposal != "prior":
        contents["guide"] = guide.state_dict()
    write_sealed(path, MODEL_KIND, contents)


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


def load_run(run: Path) -> SavedRun:
    """The trained network of a run, its proposal, its configuration and its data.

    Arguments:
        run: a run folder, for its ``model.pt``; or a model file, such as its ``best.pt``.

    Raises:
        RunError: the folder holds no model, or the file is not one of this package.
        SealError: the file is another, cut or altered.
        DataError: its data are not at hand.
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
        _load(model, "state", contents["state"])
        guide = config.make_guide(model, config.program(model))
        if config.proposal != "prior":
            _load(guide, "guide", contents["guide"])
    except (RunError, DataError):
        raise
    except (RuntimeError, KeyError, TypeError, AttributeError, ValueError) as error:
        first = str(error).partition("\n")[0]
        raise RunError(f"{path} does not hold a whole model ({first}): train again") from error
    return SavedRun(model, guide, config, data)


def load_model(run: Path) -> tuple[Any, RunConfig, Dataset]:
    """The network, configuration and data of ``load_run``."""
    saved = load_run(run)
    return saved.model, saved.config, saved.data


def _load(module: nn.Module, name: str, stored: Any) -> None:
    # Models are written in float32; PyTorch's default dtype here may be another.
    like = {key: value.to(torch.float32) for key, value in module.state_dict().items()}
    module.load_state_dict(stored_tensors(name, stored, like))


def check_provenance(stored: Mapping[str, Any], data: Dataset, path: Path) -> None:
    """Refuses a file that was written with other data than those at hand."""
    for name in stored.keys() & data.provenance.keys():
        was, now = stored[name], data.provenance[name]
        if type(was) is not type(now) or was != now:
            before = "a tensor" if torch.is_tensor(was) else shown(was)
            raise RunError(
                f"{path} was trained on other {data.name} data: {name} was {before} and "
                f"is {shown(now)}; give it the same data, or train again"
            )


def write_history(history: Sequence[Epoch], path: Path) -> None:
    """Writes the epochs as CSV, one line each."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [f.name for f in fields(Epoch)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(epoch) for epoch in history)
    write_text(path, text.getvalue())


def read_history(path: Path) -> list[dict[str, str]]:
    """The lines of a history by the names of their columns; none if there is no such file."""
    if not path.exists():
        return []
    try:
        text = read_regular(path, HISTORY_LIMIT).decode("utf-8")
        rows = list(csv.DictReader(io.StringIO(text)))
        if any(set(row) != {f.name for f in fields(Epoch)} or None in row.values() for row in rows):
            raise ValueError("its columns are others")
        for row in rows:
            for value in row.values():
                float(value)
    except (OSError, ValueError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise RunError(
            f"{path} is no history of a training ({reason}): use another copy"
        ) from error
    return rows


def _why_no_model(run: Path) -> str:
    if (run / "config.json").is_file():
        resumed = command("sfnn", "train", "--resume", run)
        return f"{run} holds no model.pt yet: complete it with {resumed}"
    return f"{run} holds no model.pt: give the folder that 'sfnn train' wrote"
