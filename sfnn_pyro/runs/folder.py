"""A run folder: what was trained, how, and with what result.

``config.json`` holds the configuration, ``history.csv`` the epochs, ``best.safetensors`` the model
that was best on the validation data, and ``evaluation-*.json`` the results. ``model.safetensors``
is there once the training is complete; until then there is ``checkpoint.pt``, from which it
resumes. Nothing in the folder executes code when it is read.
"""

import csv
import io
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, fields
from pathlib import Path

import filelock

from sfnn_pyro.runs.choices import RunError
from sfnn_pyro.runs.configuration import RunConfig
from sfnn_pyro.system.atomic_files import WriteError, check_target, made_folder, write_text
from sfnn_pyro.system.regular_files import read_regular
from sfnn_pyro.training import Epoch

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
        raise RunError(f"{path}: {error}; use another copy of the run") from error


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
        reader = csv.DictReader(io.StringIO(text))
        rows = list(reader)
        names = [f.name for f in fields(Epoch)]
        if reader.fieldnames != names or any(None in (*row, *row.values()) for row in rows):
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
