"""One run: trained, measured and written; killed at any time, it goes on where it stopped."""

import json
import shutil
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import astuple
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pyro
import torch

from sfnn_pyro.checkpoints import locked
from sfnn_pyro.data import Dataset
from sfnn_pyro.experiments import measures
from sfnn_pyro.experiments.grid import Run
from sfnn_pyro.experiments.problems import load_data, make_model, make_trainer, training_data
from sfnn_pyro.experiments.results import result_path, write_result
from sfnn_pyro.files import read_sealed, remove_leftovers, write_sealed
from sfnn_pyro.interrupts import Interrupted, Request, interruptible
from sfnn_pyro.runs import machine
from sfnn_pyro.training import NonFiniteError, Trainer

CHECKPOINT_KIND = "experiment 1"
TRAINED = 0.9
"""The part of a run's work that is training, for the progress display."""

OnProgress = Callable[[float, str], None]


def execute(
    run: Run,
    folder: Path,
    *,
    device: str = "cpu",
    checkpoint_minutes: float = 2.0,
    on_progress: OnProgress = lambda done, note: None,
) -> Path:
    """Makes a run, unless its result is there, and writes its result file.

    Its checkpoint lies in ``folder/work`` until then. A training that becomes infinite has a
    result too, which says so.

    Arguments:
        run: the configuration.
        folder: of results.
        device: where to compute; no part of the configuration.
        checkpoint_minutes: the longest time between checkpoints.
        on_progress: called after every step with the part that is done and a note.

    Returns:
        The path of the result file.

    Raises:
        RunError: another process makes this run in this folder.
        Interrupted: by a signal, after saving.
    """
    path, work = result_path(folder, run), folder / "work" / run.name
    if not path.exists():
        with interruptible() as request, locked(work):
            remove_leftovers(path)
            making = _Making(run, folder, work / "checkpoint.pt", device, on_progress, request)
            # Networks of this process share parameter names, but must not share a store.
            with pyro.get_param_store().scope():
                making.make(checkpoint_minutes * 60)
        shutil.rmtree(work, ignore_errors=True)
    return path


class _Making:
    """A run under way."""

    def __init__(
        self,
        run: Run,
        folder: Path,
        checkpoint: Path,
        device: str,
        on_progress: OnProgress,
        request: Request,
    ) -> None:
        self.run, self.folder, self.checkpoint = run, folder, checkpoint
        self.device, self.on_progress, self.request = device, on_progress, request
        self.data: Dataset = load_data(run, device)
        self.model = make_model(run, self.data, device)
        self.trainer: Trainer = make_trainer(run, self.model, self.data)
        self.of_epoch = training_data(run, self.data)
        self.probes: dict[str, Any] = {}
        self.seconds = 0.0

    def make(self, interval: float) -> None:
        self._load()
        self.began = self.saved = time.monotonic()
        self.interval = interval
        try:
            self._train()
            self._save()
            self._finish()
        except Interrupted as error:
            self._save()
            name = self.run.name
            raise Interrupted(error.number, f"{error}: {name} is saved and goes on") from None
        except NonFiniteError as error:
            self._write({"failure": str(error)})

    def _train(self) -> None:
        trainer, run = self.trainer, self.run
        trainer.train = self.of_epoch(len(trainer.history))
        if not trainer.steps:
            self.probes["0"] = self._probe(0)
        autocast: Any = nullcontext()
        if run.precision == "bfloat16":
            autocast = torch.autocast(torch.device(self.device).type, torch.bfloat16)
        with autocast:
            for epoch in trainer.run(self._after_step, lambda count: self.request.check()):
                with torch.autocast(torch.device(self.device).type, enabled=False):
                    self.probes[str(epoch.epoch)] = self._probe(epoch.epoch)
                if epoch.epoch < run.epochs:
                    trainer.train = self.of_epoch(epoch.epoch)

    def _probe(self, epoch: int) -> dict[str, Any]:
        return {
            **measures.randomness(self.run, self.model, self.data),
            **measures.gradient_norms(self.run, self.model, self.data, epoch),
        }

    def _after_step(self, mean: float) -> None:
        self.on_progress(TRAINED * self.trainer.progress, f"{mean:8.2f} nats")
        self.request.check()
        if time.monotonic() - self.saved >= self.interval:
            self._save()

    def _finish(self) -> None:
        def on_part(done: float) -> None:
            self.on_progress(TRAINED + (1 - TRAINED) * done, "measured")
            self.request.check()

        found = measures.evaluations(self.run, self.model, self.data, on_part)
        pictures = measures.figures(self.run, self.model, self.data)
        self._write({"evaluations": found, **pictures})

    def _write(self, result: dict[str, Any]) -> None:
        write_made(
            self.folder,
            self.run,
            result,
            history=[list(astuple(epoch)) for epoch in self.trainer.history],
            probes=self.probes,
            data=self.data,
            seconds=self.seconds + time.monotonic() - self.began,
            device=self.device,
        )

    def _load(self) -> None:
        remove_leftovers(self.checkpoint)
        if self.checkpoint.exists():
            contents = read_sealed(self.checkpoint, CHECKPOINT_KIND)
            self.trainer.load_state_dict(contents["trainer"])
            self.probes = json.loads(contents["probes"])
            self.seconds = contents["seconds"]

    def _save(self) -> None:
        contents = {
            "trainer": self.trainer.state_dict(),
            "probes": json.dumps(self.probes),
            "seconds": self.seconds + time.monotonic() - self.began,
        }
        write_sealed(self.checkpoint, CHECKPOINT_KIND, contents)
        self.saved = time.monotonic()


def write_made(
    folder: Path,
    run: Run,
    result: dict[str, Any],
    *,
    history: list[list[float]],
    probes: dict[str, dict[str, Any]],
    data: Dataset,
    seconds: float,
    device: str,
) -> None:
    """Writes a run's result with all that it was made by."""
    result = {
        **result,
        "history": {
            "columns": ["epoch", "learning_rate", "train", "validation"],
            "rows": [[_finite(value) for value in row] for row in history],
        },
        "probes": {epoch: probe for epoch, probe in probes.items() if probe},
        "provenance": dict(data.provenance),
        "seconds": round(seconds, 1),
        "device": device,
        "machine": {**machine(), "sfnn_pyro": _version()},
    }
    write_result(folder, run, result)


def _finite(value: float) -> float | None:
    """Rounded for a small file; None where JSON has no number."""
    return None if value != value or abs(value) == float("inf") else round(value, 5)


def _version() -> str:
    try:
        return version("sfnn_pyro")
    except PackageNotFoundError:
        return "not installed"
