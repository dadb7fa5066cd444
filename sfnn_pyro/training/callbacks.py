"""What a trainer calls while it trains."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sfnn_pyro.training.trainer import Epoch, Trainer


class Callback:
    """What ``Trainer.run`` calls: a subclass overrides the methods that it needs.

    In each of them the trainer's state may be saved, and an exception ends the training there.

    Example:
        >>> class Print(Callback):
        ...     def on_epoch(self, trainer, epoch):
        ...         print(f"epoch {epoch.epoch}: {trainer.steps} steps")
        >>> from sfnn_pyro.data import load_dataset
        >>> from sfnn_pyro.estimators import G3
        >>> from sfnn_pyro.guides import PriorProposal
        >>> from sfnn_pyro.models import SFNN
        >>> from sfnn_pyro.training import Schedule, Trainer
        >>> digits, model = load_dataset("digits"), SFNN([32, 5, 32])
        >>> trainer = Trainer(model, PriorProposal(model), G3(2), digits.train,
        ...                   digits.validation, Schedule(epochs=1))
        >>> epochs = list(trainer.run(Print()))
        epoch 1: 12 steps
    """

    def should_stop(self, trainer: "Trainer") -> bool:
        """Asked before every epoch: whether the training ends here.

        The answer may depend on the trainer's history alone, so that a resumed training ends where
        an uninterrupted one does.
        """
        return False

    def on_step(self, trainer: "Trainer", log_likelihood: float) -> None:
        """Called after every step with its mean estimate in nats per datapoint."""

    def on_validation(self, trainer: "Trainer", datapoints: int) -> None:
        """Called during validation with the number of datapoints evaluated since the last call."""

    def on_epoch(self, trainer: "Trainer", epoch: "Epoch") -> None:
        """Called after every epoch, when its validation is done."""
