"""Ending a training that no longer improves."""

import math
from typing import TYPE_CHECKING

from sfnn_pyro.system.numbers import check_whole
from sfnn_pyro.training.callbacks import Callback

if TYPE_CHECKING:
    from sfnn_pyro.training.trainer import Trainer

MAX_PATIENCE = 10**12


class EarlyStopping(Callback):
    """Ends a training when its validation log-likelihood has not risen for some epochs.

    The last network of the training is not its best one: see ``best.safetensors`` of a run folder.

    Arguments:
        patience: number of epochs without a new highest value after which the training ends.

    Raises:
        ValueError: ``patience`` is no whole number of at least 1.

    Example:
        >>> from sfnn_pyro.data import load_dataset
        >>> from sfnn_pyro.estimators import G3
        >>> from sfnn_pyro.guides import PriorProposal
        >>> from sfnn_pyro.models import SFNN
        >>> from sfnn_pyro.training import Schedule, Trainer
        >>> digits, model = load_dataset("digits"), SFNN([32, 5, 32])
        >>> trainer = Trainer(model, PriorProposal(model), G3(2), digits.train,
        ...                   digits.validation, Schedule(epochs=40, learning_rate=3.0))
        >>> len(list(trainer.run(EarlyStopping(patience=2)))) < 40
        True
    """

    def __init__(self, patience: int) -> None:
        check_whole("patience", patience, 1, MAX_PATIENCE)
        self.patience = patience

    def should_stop(self, trainer: "Trainer") -> bool:
        values = [epoch.validation_log_likelihood for epoch in trainer.history]
        values = [-math.inf if math.isnan(value) else value for value in values]
        return bool(values) and len(values) - 1 - values.index(max(values)) >= self.patience
