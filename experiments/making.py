"""A training under way: saved on time and on signals, and goes on where it stopped."""

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, ClassVar

import torch

from sfnn_pyro.experiments.grid import Run
from sfnn_pyro.system.atomic_files import remove_leftovers
from sfnn_pyro.system.denormals import flushed_denormals
from sfnn_pyro.system.sealed_files import read_sealed, write_sealed
from sfnn_pyro.system.stop_requests import Interrupted, StopRequest
from sfnn_pyro.training import Callback, Trainer

TRAINED = 0.9
"""The part of a run's work that is training, for the progress display."""

OnProgress = Callable[[float, str], None]


class Making(Callback, ABC):
    """One training and its measuring, of one run or of several as replicas.

    Arguments:
        run: the configuration, of replicas that of the first.
        folder: of results.
        checkpoint: where to save.
        device: where to compute.
        on_progress: called after every step with the part that is done and a note.
        request: what a signal asked for.
    """

    kind: ClassVar[str]
    """Of the checkpoint file."""
    going_on: ClassVar[str]
    """What is said of a run that was interrupted, after its name."""
    note: str = ""
    """What to add to each step's progress."""

    trainer: Any
    probes: Any

    def __init__(
        self,
        run: Run,
        folder: Path,
        checkpoint: Path,
        device: str,
        on_progress: OnProgress,
        request: StopRequest,
    ) -> None:
        self.run, self.folder, self.checkpoint = run, folder, checkpoint
        self.device, self.on_progress, self.request = device, on_progress, request
        self.before = 0.0

    @property
    def seconds(self) -> float:
        """Spent so far, in this process and those before it."""
        return self.before + time.monotonic() - self.began

    def make(self, interval: float) -> None:
        """Trains and measures, saving every ``interval`` seconds."""
        with flushed_denormals():
            self._make(interval)

    def _make(self, interval: float) -> None:
        remove_leftovers(self.checkpoint)
        contents = {}
        if self.checkpoint.exists():
            contents = read_sealed(self.checkpoint, self.kind)
        self._begin(contents)
        if contents:
            self.trainer.load_state_dict(contents["trainer"])
            self.probes = json.loads(contents["probes"])
            self.before = contents["seconds"]
        self.began = self.saved = time.monotonic()
        try:
            self._train(interval)
            self._save()
            self._finish()
        except Interrupted as error:
            self._save()
            message = f"{error}: {self.run.name} {self.going_on}"
            raise Interrupted(error.number, message) from None

    @abstractmethod
    def _begin(self, saved: dict[str, Any]) -> None:
        """Makes trainer and probes as at the beginning; what was saved is loaded then."""

    @abstractmethod
    def _probe(self, epoch: int) -> None:
        """Measures what is followed over the epochs."""

    @abstractmethod
    def _finish(self) -> None:
        """Measures what was trained and writes it."""

    def _contents(self) -> dict[str, Any]:
        """What else is saved."""
        return {}

    def _train(self, interval: float) -> None:
        self._interval = interval
        kind = torch.device(self.device).type
        autocast: Any = nullcontext()
        if self.run.precision == "bfloat16":
            autocast = torch.autocast(kind, torch.bfloat16)
        if not self.trainer.steps:
            self._probe(0)
        with autocast:
            for epoch in self.trainer.run(self):
                with torch.autocast(kind, enabled=False):
                    self._probe(epoch.epoch)

    def on_step(self, trainer: Trainer, log_likelihood: float) -> None:
        note = f"{log_likelihood:8.2f} nats{self.note}"
        self.on_progress(TRAINED * trainer.progress, note)
        self.request.check()
        if time.monotonic() - self.saved >= self._interval:
            self._save()

    def on_validation(self, trainer: Trainer, datapoints: int) -> None:
        self.request.check()

    def _save(self) -> None:
        contents = {
            **self._contents(),
            "trainer": self.trainer.state_dict(),
            "probes": json.dumps(self.probes),
            "seconds": self.seconds,
        }
        write_sealed(self.checkpoint, self.kind, contents)
        self.saved = time.monotonic()
