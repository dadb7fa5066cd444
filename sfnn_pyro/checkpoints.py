"""Trainings that lose nothing: in a run folder, saved as they go, and taken up again."""

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import filelock

from sfnn_pyro.data import Dataset
from sfnn_pyro.distributed import DistributedTrainer, ProcessGroup, check_agreement
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
from sfnn_pyro.system.atomic_files import WriteError, remove_leftovers, write_text
from sfnn_pyro.system.sealed_files import read_sealed, write_sealed
from sfnn_pyro.system.stop_requests import Interrupted, StopRequest, interruptible
from sfnn_pyro.training import Callback, NonFiniteError, Trainer

CHECKPOINT_KIND = "checkpoint 1"
WRITTEN = (
    "config.json",
    "ranks.json",
    "history.csv",
    "failure.json",
    "checkpoint.pt",
    "best.pt",
    "model.pt",
)

OnStep = Callable[[Trainer, float], None]


def train_run(
    config: RunConfig,
    folder: Path,
    *,
    checkpoint_minutes: float = 5.0,
    on_step: OnStep | None = None,
    device: str = "cpu",
    group: ProcessGroup | None = None,
    split: str = "data",
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
        device: where to compute; no part of the configuration.
        group: of several processes that train together and all call this; only the first of them
            writes, and only it must see the folder.
        split: what the processes divide, ``"data"`` or ``"particles"``: see
            ``DistributedTrainer``.

    Returns:
        The trained model and its data.

    Raises:
        RunError: the folder is in use, or holds a run of another configuration.
        DisagreementError: a rank runs other code, or has other options or data, than the first.
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
    group = group or ProcessGroup()
    data = config.load_data().to(device)
    check_agreement(group, {**_facts(config, data), "split": split})
    model = config.make_model(data).to(device)
    with interruptible() as request, locked(folder) if group.is_first else nullcontext():
        if group.is_first:
            _check_same(config, folder)
        if group.broadcast((folder / "model.pt").exists()):
            state = load_model(folder)[0].state_dict() if group.is_first else None
            model.load_state_dict(group.broadcast(state))
        else:
            trainer = config.make_trainer(model, data)
            if not group.is_alone:
                trainer = DistributedTrainer.of(trainer, group, split)
            interval = 60 * checkpoint_minutes
            _Keeper(config, folder, data, model, trainer, group, request, interval, on_step).run()
    return model, data


def _facts(config: RunConfig, data: Dataset) -> dict[str, Any]:
    """What must be alike on all processes of a training, by its name for a person."""
    options = asdict(config)
    options |= options.pop("schedule")
    parts = {"training": data.train, "validation": data.validation}
    contents = {f"the {name} data's x": part.x for name, part in parts.items()}
    contents |= {f"the {name} data's y": part.y for name, part in parts.items()}
    return {**options, **contents}


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
class _Keeper(Callback):
    """What a run folder needs while it is trained in."""

    config: RunConfig
    folder: Path
    data: Dataset
    model: SFNN
    trainer: Trainer
    group: ProcessGroup
    request: StopRequest
    interval: float
    after_step: OnStep | None
    _recorded: int | None = None

    def run(self) -> None:
        self._begin()
        self._saved = time.monotonic()
        try:
            for _ in self.trainer.run(self):
                self._after_epoch()
                self._agreed(False)
        except Interrupted as error:
            self._save()
            raise Interrupted(error.number, f"{error}: {self._where()}") from None
        except NonFiniteError as error:
            self._save()
            if self.group.is_first:
                text = json.dumps(error.report, indent=2) + "\n"
                write_text(self.folder / "failure.json", text)
            raise
        self._finish()

    def on_step(self, trainer: Trainer, log_likelihood: float) -> None:
        self._claim()
        self._record_ranks()
        if self.after_step is not None:
            self.after_step(trainer, log_likelihood)
        if self._agreed(time.monotonic() - self._saved >= self.interval):
            self._save()
            self._saved = time.monotonic()

    def on_validation(self, trainer: Trainer, datapoints: int) -> None:
        if self.group.is_alone:  # ranks may be at different places
            self.request.check()

    def _agreed(self, due: bool) -> bool:
        """Whether to save now: all ranks stop, and all save, after the same step."""
        number, save = self.group.max([self.request.number or 0, due])
        if number:
            raise Interrupted(int(number))
        return bool(save)

    def _begin(self) -> None:
        path = self.folder / "checkpoint.pt"
        contents = None
        if self.group.is_first:
            for name in WRITTEN:
                remove_leftovers(self.folder / name)
            (self.folder / "failure.json").unlink(missing_ok=True)
            if path.exists():
                contents = read_sealed(path, CHECKPOINT_KIND)
        contents = self.group.broadcast(contents)
        if contents is not None:
            self._load(contents, path)
        self._recorded = self.trainer.steps

    def _claim(self) -> None:
        """Says what the folder is for, once there is a step to keep: a false start leaves none."""
        if not self.group.is_first:
            return
        if not (self.folder / "config.json").exists():
            write_text(self.folder / "config.json", self.config.to_json())

    def _record_ranks(self) -> None:
        """Adds a line for this start of the training: from which step, by which ranks."""
        if self.group.is_alone or not self.group.is_first or self._recorded is None:
            return
        path, began = self.folder / "ranks.json", self._recorded
        starts = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
        start = {"from_step": began, **self.trainer.record()}  # type: ignore[attr-defined]
        lines = ",\n".join(f" {json.dumps(one)}" for one in [*starts, start])
        write_text(path, f"[\n{lines}\n]\n")
        self._recorded = None

    def _load(self, contents: dict[str, Any], path: Path) -> None:
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
        if self.group.is_first:
            write_sealed(self.folder / "checkpoint.pt", CHECKPOINT_KIND, contents)

    def _after_epoch(self) -> None:
        if not self.group.is_first:
            return
        history = self.trainer.history
        write_history(history, self.folder / "history.csv")
        values = [epoch.validation_log_likelihood for epoch in history]
        earlier = [value for value in values[:-1] if not math.isnan(value)]
        if values[-1] > max(earlier, default=-math.inf):
            save_model(self.model, self.config, self.data, self.folder / "best.pt")

    def _finish(self) -> None:
        if not self.group.is_first:
            return
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
