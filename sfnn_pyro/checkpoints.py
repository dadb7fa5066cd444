"""Trainings that lose nothing: in a run folder, saved as they go, and taken up again."""

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import filelock

from sfnn_pyro.data import Dataset
from sfnn_pyro.files import WriteError, read_sealed, remove_leftovers, write_sealed, write_text
from sfnn_pyro.interrupts import Interrupted, Request, interruptible
from sfnn_pyro.models import SFNN
from sfnn_pyro.runs import (
    RunConfig,
    RunError,
    check_provenance,
    load_model,
    read_config,
    save_model,
    write_history,
)
from sfnn_pyro.training import NonFiniteError, Trainer

CHECKPOINT_KIND = "checkpoint 1"
WRITTEN = ("config.json", "history.csv", "failure.json", "checkpoint.pt", "best.pt", "model.pt")

OnStep = Callable[[Trainer, float], None]


def train_run(
    config: RunConfig,
    folder: Path,
    *,
    checkpoint_minutes: float = 5.0,
    on_step: OnStep | None = None,
) -> tuple[SFNN, Dataset]:
    """Trains in a run folder, from its checkpoint if it holds one, until its ``model.pt`` exists.

    However often the process is killed on the way and this is called again, parameters and
    history end with the same bits (on one machine, with one number of threads). SIGINT and
    SIGTERM save and leave between two steps.

    Arguments:
        config: how to train.
        folder: the run folder; made if needed, and locked against other processes.
        checkpoint_minutes: the longest time between checkpoints; 0 for one after every step.
        on_step: called after every step with the trainer and the step's mean log-likelihood.

    Returns:
        The trained model and its data.

    Raises:
        RunError: the folder is in use, or holds a run of another configuration.
        Interrupted: by a signal, after saving.
        NonFiniteError: on a step that is not finite, after saving; ``failure.json`` has all of
            its rows.
        WriteError: the folder cannot be written; the last checkpoint is as it was.

    Example:
        >>> import tempfile
        >>> from sfnn_pyro.training import Schedule
        >>> folder = Path(tempfile.mkdtemp()) / "run"
        >>> config = RunConfig(hidden=(5,), particles=2, schedule=Schedule(epochs=1))
        >>> model, digits = train_run(config, folder)
        >>> sorted(path.name for path in folder.iterdir())
        ['.lock', 'best.pt', 'config.json', 'history.csv', 'model.pt']
    """
    if not checkpoint_minutes >= 0:
        raise ValueError(f"checkpoint_minutes={checkpoint_minutes}: must be 0 or more")
    data = config.load_data()
    model = config.make_model(data)
    with interruptible() as request, locked(folder):
        _check_same(config, folder)
        if (folder / "model.pt").exists():
            model, _, data = load_model(folder)
        else:
            keeper = _Keeper(config, folder, data, model, config.make_trainer(model, data))
            keeper.run(request, checkpoint_minutes * 60, on_step)
    return model, data


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps other processes out of a run folder.

    Raises:
        RunError: another process is in it.
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
        raise RunError(
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


@dataclass
class _Keeper:
    """What a run folder needs while it is trained in."""

    config: RunConfig
    folder: Path
    data: Dataset
    model: SFNN
    trainer: Trainer

    def run(self, request: Request, seconds: float, on_step: OnStep | None) -> None:
        self._begin()
        saved = time.monotonic()

        def after_step(mean: float) -> None:
            nonlocal saved
            self._claim()
            if on_step is not None:
                on_step(self.trainer, mean)
            request.check()
            if time.monotonic() - saved >= seconds:
                self._save()
                saved = time.monotonic()

        try:
            for _ in self.trainer.run(after_step, lambda count: request.check()):
                self._after_epoch()
                request.check()
        except Interrupted as error:
            self._save()
            raise Interrupted(error.number, f"{error}: {self._where()}") from None
        except NonFiniteError as error:
            self._save()
            write_text(self.folder / "failure.json", json.dumps(error.report, indent=2) + "\n")
            raise
        self._finish()

    def _begin(self) -> None:
        for name in WRITTEN:
            remove_leftovers(self.folder / name)
        (self.folder / "failure.json").unlink(missing_ok=True)
        path = self.folder / "checkpoint.pt"
        if path.exists():
            self._load(path)

    def _claim(self) -> None:
        """Says what the folder is for, once there is a step to keep: a false start leaves none."""
        if not (self.folder / "config.json").exists():
            write_text(self.folder / "config.json", self.config.to_json())

    def _load(self, path: Path) -> None:
        contents = read_sealed(path, CHECKPOINT_KIND)
        try:
            if RunConfig.from_json(contents["config"]) != self.config:
                raise RunError(f"{path} belongs to another configuration: give another folder")
            check_provenance(contents["provenance"], self.data, path)
            self.trainer.load_state_dict(contents["trainer"])
        except (RuntimeError, LookupError, TypeError, AttributeError) as error:
            first = str(error).partition("\n")[0]
            raise RunError(f"{path} does not hold a whole training ({first})") from error

    def _save(self) -> None:
        self._claim()
        contents = {
            "config": self.config.to_json(),
            "provenance": dict(self.data.provenance),
            "trainer": self.trainer.state_dict(),
        }
        write_sealed(self.folder / "checkpoint.pt", CHECKPOINT_KIND, contents)

    def _after_epoch(self) -> None:
        history = self.trainer.history
        write_history(history, self.folder / "history.csv")
        values = [epoch.validation_log_likelihood for epoch in history]
        earlier = [value for value in values[:-1] if not math.isnan(value)]
        if values[-1] > max(earlier, default=-math.inf):
            save_model(self.model, self.config, self.data, self.folder / "best.pt")

    def _finish(self) -> None:
        write_history(self.trainer.history, self.folder / "history.csv")
        save_model(self.model, self.config, self.data, self.folder / "model.pt")
        (self.folder / "checkpoint.pt").unlink(missing_ok=True)

    def _where(self) -> str:
        return f"saved at step {self.trainer.steps}; go on with 'sfnn train --resume {self.folder}'"


def _check_same(config: RunConfig, folder: Path) -> None:
    """Refuses a folder that holds the run of another configuration."""
    if not (folder / "config.json").exists():
        others = [name for name in WRITTEN if (folder / name).exists()]
        if others:
            raise RunError(f"{folder} holds {others[0]} but no config.json: give another folder")
        return
    if read_config(folder) != config:
        raise RunError(
            f"{folder} holds a run of another configuration: give another folder, or go on with "
            f"'sfnn train --resume {folder}'"
        )
