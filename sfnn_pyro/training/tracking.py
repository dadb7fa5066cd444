"""What follows the numbers of a training while it runs, such as TensorBoard."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from sfnn_pyro.training.callbacks import Callback
from sfnn_pyro.training.csv_tracker import CSVTracker

if TYPE_CHECKING:
    from sfnn_pyro.training.trainer import Epoch, Trainer


class Tracker(Protocol):
    """Takes numbers by name and step; PyTorch's ``SummaryWriter`` is one as it is."""

    def add_scalar(self, tag: str, value: float, step: int, /) -> object:
        """Records a number.

        Arguments:
            tag: its name, such as ``"validation/log_likelihood"``.
            value: the number.
            step: number of optimizer steps so far.
        """


class Tracking(Callback):
    """Gives a tracker the numbers of every step and epoch, in nats per datapoint.

    Arguments:
        tracker: path of a CSV file (see ``CSVTracker``); or what makes a tracker, called with the
            step of the first number. Nothing is made before that, so that a training that fails at
            its start leaves nothing.

    Example:
        >>> from sfnn_pyro.data import load_dataset
        >>> from sfnn_pyro.estimators import G3
        >>> from sfnn_pyro.guides import PriorProposal
        >>> from sfnn_pyro.models import SFNN
        >>> from sfnn_pyro.training import Schedule, Trainer
        >>> class Names:
        ...     def __init__(self):
        ...         self.seen = set()
        ...     def add_scalar(self, tag, value, step):
        ...         self.seen.add(tag)
        >>> digits, model, names = load_dataset("digits"), SFNN([32, 5, 32]), Names()
        >>> trainer = Trainer(model, PriorProposal(model), G3(2), digits.train,
        ...                   digits.validation, Schedule(epochs=1))
        >>> epochs = list(trainer.run(Tracking(lambda steps: names)))
        >>> sorted(names.seen)[1:3]
        ['step/log_likelihood', 'train/log_likelihood']
    """

    def __init__(self, tracker: Callable[[int], Tracker] | Path | str = "training.csv") -> None:
        given = tracker
        self.make_tracker: Callable[[int], Tracker] = (
            given if callable(given) else lambda step: CSVTracker(given, purge_step=step)
        )
        self.tracker: Tracker | None = None

    def on_step(self, trainer: "Trainer", log_likelihood: float) -> None:
        self._add(trainer.steps, "step/log_likelihood", log_likelihood)
        self._add(trainer.steps, "learning_rate", trainer.learning_rate)

    def on_epoch(self, trainer: "Trainer", epoch: "Epoch") -> None:
        self._add(trainer.steps, "train/log_likelihood", epoch.train_log_likelihood)
        self._add(trainer.steps, "validation/log_likelihood", epoch.validation_log_likelihood)

    def _add(self, step: int, tag: str, value: float) -> None:
        if self.tracker is None:
            self.tracker = self.make_tracker(step)
        self.tracker.add_scalar(tag, value, step)
