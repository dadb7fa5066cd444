"""A run of a sweep: trained, probed after every epoch, measured, and saved at intervals."""

import json
import time
from abc import abstractmethod
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import astuple
from pathlib import Path
from typing import Any

import torch

from sfnn_pyro.data import Dataset
from sfnn_pyro.experiments.grid import Run
from sfnn_pyro.experiments.results import write_run
from sfnn_pyro.runs.checkpointed import CheckpointedTraining
from sfnn_pyro.system.denormals import flushed_denormals
from sfnn_pyro.system.stop_requests import StopRequest
from sfnn_pyro.training import Epoch, NonFiniteError, Trainer

TRAINED = 0.9
"""The part of a run's work that is training, for the progress display."""

OnProgress = Callable[[float, str], None]


class CheckpointedRun(CheckpointedTraining):
    """One training and its measuring, of one run or of several as replicas.

    Arguments:
        run: the configuration; of replicas, that of the first.
        folder: folder of the results.
        checkpoint: file of the checkpoint.
        device: device to compute on.
        on_progress: called after every step with the part that is done and a note.
        request: whether a signal asked to stop.
        interval: longest time between two checkpoints in seconds.
    """

    note: str = ""
    """What is added to the progress of each step."""
    probes: Any
    """What was measured after each epoch."""

    def __init__(
        self,
        run_config: Run,
        folder: Path,
        checkpoint: Path,
        device: str,
        on_progress: OnProgress,
        request: StopRequest,
        interval: float,
    ) -> None:
        super().__init__(checkpoint, request, interval)
        self.run_config, self.folder = run_config, folder
        self.device, self.on_progress = device, on_progress
        self.began, self.earlier_seconds = time.monotonic(), 0.0

    @property
    def seconds(self) -> float:
        """Time spent so far, in this process and those before it."""
        return self.earlier_seconds + time.monotonic() - self.began

    def run(self) -> None:
        with flushed_denormals():
            super().run()

    @abstractmethod
    def probe(self, epoch: int) -> None:
        """Measures what is followed over the epochs."""

    @abstractmethod
    def measure(self) -> None:
        """Measures what was trained and writes the results."""

    def contents(self) -> dict[str, Any]:
        return {"probes": json.dumps(self.probes), "seconds": self.seconds}

    def restore(self, saved: dict[str, Any]) -> None:
        self.probes = json.loads(saved["probes"])
        self.earlier_seconds = saved["seconds"]

    def train(self) -> None:
        if not self.trainer.steps:
            self.probe(0)
        with self._autocast() if self.run_config.precision == "bfloat16" else nullcontext():
            super().train()

    def after_step(self, log_likelihood: float) -> None:
        note = f"{log_likelihood:8.2f} nats{self.note}"
        self.on_progress(TRAINED * self.trainer.progress, note)

    def on_epoch(self, trainer: Trainer, epoch: Epoch) -> None:
        with self._autocast(enabled=False):
            self.probe(epoch.epoch)

    def finish(self) -> None:
        self.save()
        self.measure()

    def fail(self, error: NonFiniteError) -> None:
        """Does nothing: the caller handles the error."""

    def _autocast(self, enabled: bool = True) -> torch.autocast:
        return torch.autocast(torch.device(self.device).type, torch.bfloat16, enabled=enabled)


class SingleRun(CheckpointedRun):
    """A run with a result file of its own, which is written for a failed training too."""

    probes: dict[str, Any]
    data: Dataset

    def fail(self, error: NonFiniteError) -> None:
        self.write({"failure": str(error)})

    def resume_hint(self) -> str:
        return f"{self.run_config.name} is saved and will be resumed"

    def on_part(self, done: float) -> None:
        """Reports a part of the measuring, and stops the run there after a stop request."""
        self.on_progress(TRAINED + (1 - TRAINED) * done, "measured")
        self.request.check()

    def write(self, result: dict[str, Any]) -> None:
        """Writes the result file."""
        write_run(
            self.folder,
            self.run_config,
            result,
            history=[list(astuple(epoch)) for epoch in self.trainer.history],
            probes=self.probes,
            data=self.data,
            seconds=self.seconds,
            device=self.device,
        )
