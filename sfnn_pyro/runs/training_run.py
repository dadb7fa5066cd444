"""What ``sfnn train`` does: a training in a run folder, saved and resumed."""

import json
import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from sfnn_pyro.data import Dataset
from sfnn_pyro.distributed import DistributedTrainer, ProcessGroup, check_agreement
from sfnn_pyro.runs.checkpointed import CheckpointedTraining
from sfnn_pyro.runs.choices import RunError
from sfnn_pyro.runs.configuration import RunConfig
from sfnn_pyro.runs.folder import (
    locked,
    read_config,
    write_history,
)
from sfnn_pyro.runs.saved_run import SavedRun, check_provenance, load_model, model_file, save
from sfnn_pyro.system.arguments import check_object, given_path
from sfnn_pyro.system.atomic_files import remove_leftovers, write_text
from sfnn_pyro.system.devices import check_device
from sfnn_pyro.system.numbers import check_real
from sfnn_pyro.system.sealed_files import remove_sealed
from sfnn_pyro.system.shell_words import command
from sfnn_pyro.system.stop_requests import StopRequest, interruptible
from sfnn_pyro.training import Callback, EarlyStopping, Epoch, NonFiniteError, Trainer
from sfnn_pyro.training.stored_state import StateError, check_keys, stored_tensors

WRITTEN = (
    "config.json",
    "ranks.json",
    "history.csv",
    "failure.json",
    "checkpoint.pt",
    "checkpoint.pt.sha256",
    "best.safetensors",
    "best.pt",
    "model.safetensors",
    "model.pt",
)

OnStep = Callable[[Trainer, float], None]


def train_run(
    config: RunConfig,
    folder: str | Path,
    *,
    checkpoint_minutes: float = 5.0,
    on_step: OnStep | None = None,
    device: str = "cpu",
    group: ProcessGroup | None = None,
    split: str = "data",
    resume_command: str | None = None,
    callbacks: Sequence[Callback] = (),
) -> tuple[Any, Dataset]:
    """Trains in a run folder, from its checkpoint if it holds one, until its model's file exists.

    However often the process is killed on the way and this is called again, parameters and
    history end with the same bits (on one machine, with one number of threads). SIGINT,
    SIGTERM and SIGHUP save and leave between two steps.

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
        resume_command: what an interrupted training says that resumes it, in quotation marks;
            ``sfnn train --resume`` unless given.
        callbacks: further callbacks of the trainer, such as ``Tracking``.

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
        ['.lock', 'best.safetensors', 'config.json', 'history.csv', 'model.safetensors']
    """
    check_object("config", config, RunConfig, "give RunConfig(...)", RunError)
    check_real("checkpoint_minutes", checkpoint_minutes, lambda one: one >= 0, "must be 0 or more")
    group, folder = group or ProcessGroup(), given_path("folder", folder)
    config = config.pinned()
    config.make_estimator()  # refuses what it cannot be before anything is made
    data = config.load_data().to(check_device(device))
    config.check_memory_of_training(data)
    check_agreement(group, {**_facts(config, data), "split": split})
    model = config.make_model(data).to(device)
    with interruptible() as request, locked(folder) if group.is_first else nullcontext():
        if group.is_first:
            _check_same(config, folder)
        if group.broadcast(model_file(folder) is not None):
            place = config.data if config.is_own else None
            state = _trained(config, folder, place) if group.is_first else None
            model.load_state_dict(group.broadcast(state))
        else:
            interval = 60 * checkpoint_minutes
            run = _TrainingRun(
                config, folder, data, model, request, interval, group, split, on_step
            )
            patience = [EarlyStopping(config.patience)] if config.patience else []
            run.callbacks = [*callbacks, *patience]
            run.resume_command = resume_command or command("sfnn", "train", "--resume", folder)
            run.run()
    return model, data


def _trained(config: RunConfig, folder: Path, place: str | None) -> dict[str, Any]:
    """The parameters of a complete run, which must be of the configuration."""
    trained, stored, _ = load_model(folder, place)
    if not stored.is_same_training(config):
        raise RunError(
            f"{model_file(folder)} is of another configuration than {folder / 'config.json'}: use "
            "another copy of both, or give another folder"
        )
    return trained.state_dict()


class _TrainingRun(CheckpointedTraining):
    """A training in a run folder."""

    kind = "checkpoint"
    resume_command: str

    def __init__(
        self,
        config: RunConfig,
        folder: Path,
        data: Dataset,
        model: Any,
        request: StopRequest,
        interval: float,
        group: ProcessGroup,
        split: str,
        callback: OnStep | None,
    ) -> None:
        super().__init__(folder / "checkpoint.pt", request, interval, group)
        self.config, self.folder, self.data, self.model = config, folder, data, model
        self.split, self.callback = split, callback
        self._start_recorded = self._config_is_written = False

    def build(self, saved: dict[str, Any]) -> None:
        if self.group.is_first:
            for name in WRITTEN:
                remove_leftovers(self.folder / name)
            (self.folder / "failure.json").unlink(missing_ok=True)
        self.trainer = self.config.make_trainer(self.model, self.data)
        if not self.group.is_alone:
            self.trainer = DistributedTrainer.of(self.trainer, self.group, self.split)

    def contents(self) -> dict[str, Any]:
        self._write_config()
        return {"config": self.config.to_json(), "provenance": dict(self.data.provenance)}

    def restore(self, saved: dict[str, Any]) -> None:
        if not RunConfig.from_json(saved["config"]).is_same_training(self.config):
            raise RunError(
                f"{self.checkpoint} belongs to another configuration: give another folder"
            )
        check_provenance(saved["provenance"], self.data, self.checkpoint)

    def _check_finite(self) -> None:
        """Refuses a network that the last steps, which no loss followed, made infinite."""
        if all(p.isfinite().all() for p in self.trainer.trained):
            return
        what = "a parameter is not finite after the last step"
        raise NonFiniteError(
            f"{self.folder}: {what}: the training diverged; try a smaller learning rate",
            {"step": self.trainer.steps, "what": what},
        )

    def check_complete(self, state: dict[str, Any]) -> None:
        if not (state["steps"] or state["history"]):
            return
        self._check_slots(state)
        if self.config.estimator == "g1" and self.config.network == "sfnn":
            like = {
                f"h{number}": self.trainer.trained[0].new_zeros(2, width)
                for number, width in enumerate(self.config.hidden, 1)
            }
            stored_tensors("averages", state["moment"]["estimator"]["averages"], like)

    def _check_slots(self, state: dict[str, Any]) -> None:
        """Refuses an optimizer's state that no step leaves."""
        slots = state["optimizer"]["state"]
        adaptive = self.config.optimizer != "sgd"
        if not adaptive and not self.config.schedule.momentum:
            return
        steps = len(state["history"]) * self.trainer.steps_per_epoch + state["steps"]
        for number in range(len(self.trainer.trained)):
            name, found = f"optimizer.state[{number}]", slots.get(number, {})
            if not adaptive:
                if not torch.is_tensor(found.get("momentum_buffer")):
                    raise StateError(f"{name} has no momentum")
                continue
            check_keys(name, found, ("step", "exp_avg", "exp_avg_sq"))
            if not torch.is_tensor(found["step"]) or found["step"].item() != steps:
                raise StateError(f"{name}: step is not {steps}")
            if not torch.is_tensor(found["exp_avg"]) or not torch.is_tensor(found["exp_avg_sq"]):
                raise StateError(f"{name} has no averages")
            if (found["exp_avg_sq"] < 0).any():
                raise StateError(f"{name}: exp_avg_sq is negative")

    def train(self) -> None:
        self._first_step = self.trainer.steps
        half = self.config.precision == "bfloat16"
        device = self.trainer.trained[0].device.type
        with torch.autocast(device, torch.bfloat16) if half else nullcontext():
            super().train()

    def after_step(self, log_likelihood: float) -> None:
        self._write_config()
        self._record_start()
        if self.callback is not None:
            self.callback(self.trainer, log_likelihood)

    def on_epoch(self, trainer: Trainer, epoch: Epoch) -> None:
        if not self.group.is_first:
            return
        write_history(trainer.history, self.folder / "history.csv")
        values = [epoch.validation_log_likelihood for epoch in trainer.history]
        earlier = [value for value in values[:-1] if not math.isnan(value)]
        if values[-1] > max(earlier, default=-math.inf):
            self._save_model("best")

    def finish(self) -> None:
        self._check_finite()
        if self.group.is_first:
            write_history(self.trainer.history, self.folder / "history.csv")
            self._save_model("model")
            remove_sealed(self.checkpoint)
        if self.trainer.average is not None:  # what was saved is what is returned
            self.trainer.average.write_to(self.trainer.trained)

    def _save_model(self, name: str) -> None:
        run = SavedRun(self.model, self.trainer.guide, self.config, self.data)
        with self.trainer.averaged():
            save(run, self.folder / f"{name}.safetensors")
        (self.folder / f"{name}.pt").unlink(missing_ok=True)  # of a run that the first format began

    def fail(self, error: NonFiniteError) -> None:
        self.save()
        if self.group.is_first:
            text = json.dumps(error.report, indent=2) + "\n"
            write_text(self.folder / "failure.json", text)

    def resume_hint(self) -> str:
        step = self.trainer.steps
        return f"saved at step {step}; resume it with {self.resume_command}"

    def _write_config(self) -> None:
        """Writes ``config.json`` once there is a step to keep: a false start leaves none."""
        if self._config_is_written or not self.group.is_first:
            return
        path = self.folder / "config.json"
        if not path.exists() or read_config(self.folder) != self.config:  # its data were moved
            write_text(path, self.config.to_json())
        self._config_is_written = True

    def _record_start(self) -> None:
        """Adds a line for this start of a distributed training: from which step, by which ranks."""
        if self._start_recorded or not self.group.is_first:
            return
        self._start_recorded = True
        if isinstance(self.trainer, DistributedTrainer):
            path = self.folder / "ranks.json"
            starts = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
            start = {"from_step": self._first_step, **self.trainer.record()}
            lines = ",\n".join(f" {json.dumps(one)}" for one in [*starts, start])
            write_text(path, f"[\n{lines}\n]\n")


def _facts(config: RunConfig, data: Dataset) -> dict[str, Any]:
    """What must be the same on all processes of a training, under the name that an error gives."""
    options = asdict(config)
    options |= {**options.pop("schedule"), **options.pop("own")}
    parts = {"training": data.train, "validation": data.validation}
    contents = {f"the {name} data's x": part.x for name, part in parts.items()}
    contents |= {f"the {name} data's y": part.y for name, part in parts.items()}
    return {**options, **contents}


def _check_same(config: RunConfig, folder: Path) -> None:
    """Refuses a folder that holds the run of another configuration."""
    if not (folder / "config.json").exists():
        others = [name for name in WRITTEN if (folder / name).exists()]
        if others:
            raise RunError(f"{folder} holds {others[0]} but no config.json: give another folder")
        return
    if not read_config(folder).is_same_training(config):
        raise RunError(
            f"{folder} holds a run of another configuration: give another folder, or resume it "
            f"with {command('sfnn', 'train', '--resume', folder)}"
        )
