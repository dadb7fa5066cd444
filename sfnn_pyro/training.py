"""Training by stochastic gradient descent, as in the paper."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.infer import ELBO, SVI
from torch import Tensor

from sfnn_pyro.data import Split
from sfnn_pyro.evaluation import log_likelihood
from sfnn_pyro.optim import JointOptim, triangular


class TrainingError(RuntimeError):
    """Training cannot go on; the message says at which step and why."""


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to learn.

    Arguments:
        epochs: passes over the training data.
        learning_rate: the maximum, of the objective's *mean* over a minibatch.
        batch_size: datapoints in a minibatch.
        momentum: of the stochastic gradient descent.
        rising_epochs: epochs until the maximum; at most half of all.
        seed: of the data's order and of the particles.

    Raises:
        ValueError: a value is out of range.
    """

    epochs: int = 10
    learning_rate: float = 0.1
    batch_size: int = 100
    momentum: float = 0.9
    rising_epochs: float = 5.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 1:
            raise ValueError(
                f"epochs={self.epochs}, batch_size={self.batch_size}: both must be at least 1"
            )
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise ValueError(f"learning_rate={self.learning_rate}: must be positive and finite")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum={self.momentum}: must lie in [0, 1)")
        if not self.rising_epochs > 0:
            raise ValueError(f"rising_epochs={self.rising_epochs}: must be positive")


@dataclass(frozen=True)
class Epoch:
    """One line of a training's history; log-likelihoods in nats per datapoint."""

    epoch: int
    learning_rate: float
    train_log_likelihood: float
    validation_log_likelihood: float


@dataclass
class Trainer:
    """Trains a model with a proposal and an estimator on one data set.

    The objective is the mean over the minibatch, by a ``poutine.scale`` of 1/B around the step:
    learning rates mean what they mean in the paper. Order of the data and random stream of the
    particles depend on the seed alone.

    Arguments:
        model: a Pyro module with the signature ``model(x, y)``.
        guide: its proposal.
        estimator: any Pyro ELBO.
        train: training data.
        validation: evaluated after every epoch; may be empty.
        schedule: how long and how fast.
        parameters: what to train; those of model and guide unless given.
        validation_particles: M of the validation's estimate.

    Raises:
        TrainingError: on a step whose loss is not finite.

    Example:
        >>> from sfnn_pyro.data import load_dataset
        >>> from sfnn_pyro.estimators import G3
        >>> from sfnn_pyro.guides import PriorProposal
        >>> from sfnn_pyro.models import SFNN
        >>> digits = load_dataset("digits")
        >>> model = SFNN([digits.x_size, 20, digits.y_size])
        >>> trainer = Trainer(model, PriorProposal(model), G3(5), digits.train,
        ...                   digits.validation, Schedule(epochs=2))
        >>> [epoch.epoch for epoch in trainer.run()]
        [1, 2]
    """

    model: Any
    guide: Any
    estimator: ELBO
    train: Split
    validation: Split
    schedule: Schedule
    parameters: list[Tensor] | None = None
    validation_particles: int = 20
    history: list[Epoch] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.parameters is None:
            self.parameters = [p for part in (self.model, self.guide) for p in _parameters(part)]
        self._optimizer = torch.optim.SGD(
            list(dict.fromkeys(self.parameters)),
            lr=self.schedule.learning_rate,
            momentum=self.schedule.momentum,
            fused=True,
        )
        epochs = self.schedule.epochs
        self._factor = triangular(
            epochs * self.steps_per_epoch,
            min(self.schedule.rising_epochs, epochs / 2) * self.steps_per_epoch,
        )

    @property
    def steps_per_epoch(self) -> int:
        """Minibatches in a pass over the training data."""
        return math.ceil(len(self.train) / self.schedule.batch_size)

    @property
    def learning_rate(self) -> float:
        """Of the last step."""
        return self._optimizer.param_groups[0]["lr"]

    def run(self, on_step: Callable[[int, float], None] | None = None) -> Iterator[Epoch]:
        """Trains from where the history ends; yields after every epoch.

        Arguments:
            on_step: called after every step with the datapoints seen in it and the mean of
                their log-likelihood estimates.
        """
        if not self.history:
            torch.manual_seed(self.schedule.seed)
        while len(self.history) < self.schedule.epochs:
            with _own_parameter_store():
                mean = self._epoch(len(self.history), on_step)
            self.history.append(
                Epoch(
                    len(self.history) + 1,
                    self.learning_rate,
                    mean,
                    self._validate(),
                )
            )
            yield self.history[-1]

    def _epoch(self, number: int, on_step: Callable[[int, float], None] | None) -> float:
        svi = SVI(self.model, self.guide, JointOptim(self._optimizer), self.estimator)
        total = 0.0
        for step, index in enumerate(self._minibatches(number), number * self.steps_per_epoch):
            for group in self._optimizer.param_groups:
                group["lr"] = self.schedule.learning_rate * self._factor(step)
            x, y = self.train.x[index], self.train.y[index]
            with poutine.scale(scale=1 / len(index)):
                mean = -svi.step(x, y)
            if not math.isfinite(mean):
                raise TrainingError(
                    f"the objective is {mean} at step {step} (epoch {number + 1}, datapoints "
                    f"{index[:5].tolist()}...): try a smaller learning rate"
                )
            total += mean * len(index)
            if on_step is not None:
                on_step(len(index), mean)
        return total / len(self.train)

    def _minibatches(self, epoch: int) -> tuple[Tensor, ...]:
        generator = torch.Generator().manual_seed(self.schedule.seed * 1_000_003 + epoch)
        order = torch.randperm(len(self.train), generator=generator)
        return order.split(self.schedule.batch_size)

    def _validate(self) -> float:
        if not len(self.validation):
            return math.nan
        with torch.random.fork_rng():
            torch.manual_seed(self.schedule.seed)
            return (
                log_likelihood(
                    self.model,
                    self.validation.x,
                    self.validation.y,
                    num_particles=self.validation_particles,
                )
                .mean()
                .item()
            )


def _parameters(program: Any) -> list[Tensor]:
    return list(program.parameters()) if isinstance(program, torch.nn.Module) else []


@contextmanager
def _own_parameter_store() -> Iterator[None]:
    """An empty store of parameters, so that no other model of this process shares a name."""
    with pyro.get_param_store().scope():
        yield
