"""A training that is saved at intervals and on stop requests, and resumes from what was saved."""

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from sfnn_pyro.distributed import ProcessGroup
from sfnn_pyro.runs.configuration import RunError
from sfnn_pyro.system.atomic_files import remove_leftovers
from sfnn_pyro.system.sealed_files import read_sealed, write_sealed
from sfnn_pyro.system.stop_requests import Interrupted, StopRequest
from sfnn_pyro.training import Callback, NonFiniteError, Trainer


class CheckpointedTraining(Callback, ABC):
    """What ``sfnn train`` and ``sfnn reproduce`` do with a trainer.

    A subclass says what is trained (``build``), what belongs in the checkpoint (``contents``,
    ``restore``) and what becomes of the end (``finish``, ``fail``).

    Arguments:
        checkpoint: file of the checkpoint.
        request: whether a signal asked to stop.
        interval: longest time between two checkpoints in seconds; 0 saves after every step.
        group: the processes that train together; only the first of them writes.
    """

    kind: ClassVar[str]
    """Kind of the checkpoint file."""

    trainer: Trainer
    callbacks: Sequence[Callback] = ()
    """Others that the trainer calls, before this one."""

    def __init__(
        self,
        checkpoint: Path,
        request: StopRequest,
        interval: float,
        group: ProcessGroup | None = None,
    ) -> None:
        self.checkpoint, self.request, self.interval = checkpoint, request, interval
        self.group = group or ProcessGroup()

    def run(self) -> None:
        """Trains from the checkpoint, if there is one, to the end.

        Raises:
            RunError: the checkpoint does not hold a state of this training.
            Interrupted: by a signal, after saving.
            NonFiniteError: on a step that is not finite.
        """
        saved = self._read()
        self.build(saved)
        if saved:
            self._restore(saved)
        self._saved_at = time.monotonic()
        try:
            self.train()
            self.finish()
        except Interrupted as error:
            self.save()
            raise Interrupted(error.number, f"{error}: {self.resume_hint()}") from None
        except NonFiniteError as error:
            self.fail(error)
            raise

    @abstractmethod
    def build(self, saved: dict[str, Any]) -> None:
        """Makes the trainer as at its beginning; ``restore`` follows if anything was saved."""

    @abstractmethod
    def contents(self) -> dict[str, Any]:
        """What the checkpoint holds beside the trainer's state."""

    @abstractmethod
    def restore(self, saved: dict[str, Any]) -> None:
        """Takes back what ``contents`` returned, before the trainer's state is loaded."""

    def check_complete(self, state: dict[str, Any]) -> None:
        """Refuses a trainer's state that lacks what steps of this training leave."""

    @abstractmethod
    def finish(self) -> None:
        """Writes the result of the training."""

    @abstractmethod
    def fail(self, error: NonFiniteError) -> None:
        """Records a step that is not finite."""

    @abstractmethod
    def resume_hint(self) -> str:
        """What an interrupted training says about what was saved."""

    def after_step(self, log_likelihood: float) -> None:
        """Called after every step, before it may be saved."""

    def train(self) -> None:
        """Runs the trainer to the end of its schedule."""
        for _ in self.trainer.run(*self.callbacks, self):
            self._agree(False)

    def save(self) -> None:
        """Writes the checkpoint; every process of the group must call it."""
        contents = {**self.contents(), "trainer": self.trainer.state_dict()}
        if self.group.is_first:
            write_sealed(self.checkpoint, self.kind, contents)
        self._saved_at = time.monotonic()

    def on_step(self, trainer: Trainer, log_likelihood: float) -> None:
        self.after_step(log_likelihood)
        if self._agree(time.monotonic() - self._saved_at >= self.interval):
            self.save()

    def on_validation(self, trainer: Trainer, datapoints: int) -> None:
        if self.group.is_alone:  # ranks may be at different places
            self.request.check()

    def _agree(self, due: bool) -> bool:
        """Whether to save now: all ranks stop, and all save, after the same step."""
        number, save = self.group.max([self.request.number or 0, due])
        if number:
            raise Interrupted(int(number))
        return bool(save)

    def _read(self) -> dict[str, Any]:
        saved: dict[str, Any] = {}
        if self.group.is_first:
            remove_leftovers(self.checkpoint)
            if self.checkpoint.exists():
                saved = read_sealed(self.checkpoint, self.kind)
        return self.group.broadcast(saved)

    def _restore(self, saved: dict[str, Any]) -> None:
        try:
            self.restore(saved)
            self.check_complete(self.trainer.checked_state(saved["trainer"]))
            self.trainer.load_state_dict(saved["trainer"])
        except RunError:
            raise
        except (RuntimeError, LookupError, TypeError, AttributeError, ValueError) as error:
            first = str(error).partition("\n")[0]
            raise RunError(
                f"{self.checkpoint} does not hold a whole training ({first}): "
                "remove it to train from the beginning, or use another copy"
            ) from error
