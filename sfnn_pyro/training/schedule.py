"""How long and how fast a training learns, and in which order it sees the data."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sfnn_pyro.system.numbers import LARGEST_FLOAT32, check_real, check_whole

MAX_SEED = 2**63

MAX_COUNT = 10**12
"""Of epochs, and of the datapoints of a minibatch."""


@dataclass(frozen=True)
class Schedule:
    """The length of a training, its learning rates and the order of its data.

    A subclass that overrides ``factor`` has other learning rates.

    Arguments:
        epochs: number of passes over the training data.
        learning_rate: highest learning rate, for the objective's *mean* over a minibatch.
        batch_size: number of datapoints in a minibatch.
        momentum: momentum of stochastic gradient descent.
        rising_epochs: number of epochs until the highest learning rate; at most half of all.
        seed: seed of the order of the data and of the particles.
        weight_decay: factor of each parameter that is added to its gradient.

    Raises:
        ValueError: a value is of another type or out of range.
    """

    epochs: int = 50
    learning_rate: float = 0.1
    batch_size: int = 100
    momentum: float = 0.9
    rising_epochs: float = 5.0
    seed: int = 0
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        check_whole("epochs", self.epochs, 1, MAX_COUNT)
        check_whole("batch_size", self.batch_size, 1, MAX_COUNT)
        check_real(
            "learning_rate",
            self.learning_rate,
            lambda rate: 0 < rate <= LARGEST_FLOAT32,
            "must be positive and finite in float32, at most 3.4e38",
        )
        check_real("momentum", self.momentum, lambda m: 0 <= m < 1, "must lie in [0, 1)")
        check_real(
            "weight_decay",
            self.weight_decay,
            lambda decay: 0 <= decay <= LARGEST_FLOAT32,
            "must be finite in float32 and at least 0",
        )
        check_real(
            "rising_epochs",
            self.rising_epochs,
            lambda epochs: 0 < epochs <= LARGEST_FLOAT32,
            "must be positive and finite",
        )
        check_whole("seed", self.seed, 0, MAX_SEED - 1)

    def factor(self, step: int, steps_per_epoch: int) -> float:
        """What the learning rate is multiplied by in a step, counted from 0: a triangle.

        Example:
            >>> [Schedule(epochs=2).factor(step, steps_per_epoch=2) for step in range(4)]
            [0.25, 0.75, 0.75, 0.25]
        """
        rising = min(self.rising_epochs, self.epochs / 2) * steps_per_epoch
        return triangular(self.epochs * steps_per_epoch, rising)(step)


class ConstantSchedule(Schedule):
    """A schedule whose learning rate is the same in every step, as is usual with Adam.

    Example:
        >>> [ConstantSchedule(epochs=2).factor(step, steps_per_epoch=2) for step in range(4)]
        [1.0, 1.0, 1.0, 1.0]
    """

    def factor(self, step: int, steps_per_epoch: int) -> float:
        return 1.0


def triangular(total_steps: int, rising_steps: float) -> Callable[[int], float]:
    """The paper's schedule: linearly up from zero, then linearly back to zero.

    Arguments:
        total_steps: number of steps of the whole training.
        rising_steps: number of steps until the maximum.

    Returns:
        A function from the number of a step (from 0) to a factor in (0, 1), taken at the middle
        of the step.

    Example:
        >>> factor = triangular(total_steps=10, rising_steps=5)
        >>> [round(factor(step), 1) for step in range(10)]
        [0.1, 0.3, 0.5, 0.7, 0.9, 0.9, 0.7, 0.5, 0.3, 0.1]
    """

    def factor(step: int) -> float:
        t = step + 0.5
        return max(0.0, min(t / rising_steps, (total_steps - t) / (total_steps - rising_steps)))

    return factor


def minibatches(count: int, schedule: Schedule, epoch: int) -> tuple[Tensor, ...]:
    """Rows of every minibatch of an epoch (from 0), determined by the schedule's seed alone.

    Example:
        >>> rows = minibatches(5, Schedule(batch_size=2), epoch=0)
        >>> [len(part) for part in rows], sorted(torch.cat(rows).tolist())
        ([2, 2, 1], [0, 1, 2, 3, 4])
    """
    seed = (schedule.seed * 1_000_003 + epoch) % MAX_SEED
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    return order.split(schedule.batch_size)
