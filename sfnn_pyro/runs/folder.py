"""A run folder: what was trained, how, and with what result.

``config.json`` holds the configuration, ``history.csv`` the epochs, ``best.pt`` the model that was
best on the validation data, and ``evaluation-*.json`` the results. ``model.pt`` is there once the
training is complete; until then there is ``checkpoint.pt``, from which it resumes. Nothing in the
folder executes code when it is read.
"""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import filelock

from sfnn_pyro.data import Dataset
from sfnn_pyro.models import SFNN
from sfnn_pyro.runs.configuration import RunConfig, RunError
from sfnn_pyro.system.atomic_files import WriteError, write_text
from sfnn_pyro.system.sealed_files import read_sealed, write_sealed
from sfnn_pyro.training import Epoch

MODEL_KIND = "model 1"


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
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(folder / ".lock", timeout=0)
        lock.acquire()
    except filelock.Timeout as error:
        raise RunInUseError(
            f"{folder} is in use by another process: wait until it ends, or give another folder"
        ) from error
    except OSError as error:
        raise WriteError(
            f"{folder} cannot be used ({error.strerror or error}): give a folder that can be "
            "written"
        ) from error
    try:
        yield
    finally:
        lock.release()


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


def _why_no_model(run: Path) -> str:
    if (run / "config.json").is_file():
        return f"{run} holds no model.pt yet: complete it with 'sfnn train --resume {run}'"
    return f"{run} holds no model.pt: give the folder that 'sfnn train' wrote"
