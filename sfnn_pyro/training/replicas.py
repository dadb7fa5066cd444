"""Many trainings at once: seeds and learning rates as replicas of one batched model."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from pyro.infer import ELBO
from torch import Tensor

from sfnn_pyro.data import Split
from sfnn_pyro.guides import PriorProposal
from sfnn_pyro.models import SFNN, ReplicatedSFNN
from sfnn_pyro.training import NonFiniteError, Schedule, Trainer, minibatches
from sfnn_pyro.training.stored_state import StateError, stored_number


def train_replicas(
    networks: Sequence[SFNN],
    estimator: ELBO,
    train_data: Split,
    schedules: Sequence[Schedule],
    on_epoch: Callable[[int], None] | None = None,
) -> list[SFNN]:
    """Trains R networks in one process, each by its own seed and learning rate.

    Every replica sees its own order of the data and its own gradient; on the same random
    numbers it ends with the parameters of its single training. It saves time where a single step
    is mostly overhead: small networks, few particles, or a GPU.

    Arguments:
        networks: R networks of one shape; they are not changed.
        estimator: an estimator that takes the prior as proposal.
        train_data: the training data of all.
        schedules: R schedules that differ in seed and learning rate alone.
        on_epoch: called after every epoch with its number.

    Returns:
        The R trained networks.

    Raises:
        ValueError: the schedules differ in more, or their number is not that of the networks.
        NonFiniteError: an objective or gradient is not finite.

    Example:
        >>> from sfnn_pyro.data import load_dataset
        >>> from sfnn_pyro.estimators import G3
        >>> digits = load_dataset("digits")
        >>> schedules = [Schedule(epochs=1, seed=seed) for seed in range(3)]
        >>> networks = [SFNN([32, 10, 32]) for _ in schedules]
        >>> len(train_replicas(networks, G3(5), digits.train, schedules))
        3
    """
    trainer = ReplicaTrainer.of(networks, estimator, train_data, None, schedules)
    for epoch in trainer.run():
        if on_epoch is not None:
            on_epoch(epoch.epoch)
    return trainer.networks()


@dataclass
class ReplicaTrainer(Trainer):
    """A ``Trainer`` of R networks at once, in one batched model.

    Its history holds means over the replicas; ``validations`` holds the values of each. State and
    steps are those of ``Trainer``, so that it is saved and resumed like one.

    Arguments:
        model: a ``ReplicatedSFNN``, or a program of it such as ``deterministic(model)``.
        guide, estimator, train_data, validation_data, parameters, validation_particles: see
            ``Trainer``.
        schedule: what the schedules have in common.
        replicated: the ``ReplicatedSFNN`` itself.
        schedules: one for each replica.
        program: what a single network is validated as.
        validations: validation log-likelihoods in nats, by epoch and replica.

    Raises:
        ValueError: the schedules differ in more than seed and learning rate, or their number is
            not that of the networks.
        NonFiniteError: the objective or a gradient of some replica is not finite.

    Example:
        >>> from sfnn_pyro.data import load_dataset
        >>> from sfnn_pyro.estimators import G3
        >>> digits = load_dataset("digits")
        >>> schedules = [Schedule(epochs=1, learning_rate=rate) for rate in (0.1, 0.3)]
        >>> networks = [SFNN([32, 10, 32]) for _ in schedules]
        >>> trainer = ReplicaTrainer.of(
        ...     networks, G3(5), digits.train, digits.validation, schedules
        ... )
        >>> [len(trainer.validations[epoch.epoch - 1]) for epoch in trainer.run()]
        [2]
    """

    replicated: Any = None
    schedules: Sequence[Schedule] = ()
    program: Callable[[Any], Any] = lambda network: network
    validations: list[list[float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__post_init__()
        rates = [schedule.learning_rate for schedule in self.schedules]
        self._rates = torch.tensor(rates, device=self.trained[0].device)

    @staticmethod
    def of(
        networks: Sequence[SFNN],
        estimator: ELBO,
        train_data: Split,
        validation_data: Split | None,
        schedules: Sequence[Schedule],
        *,
        program: Callable[[Any], Any] = lambda network: network,
        validation_particles: int = 20,
    ) -> "ReplicaTrainer":
        """The training of some networks, which are not changed.

        Arguments:
            networks: R networks of one shape.
            estimator: an estimator that takes the prior as proposal.
            train_data: the training data of all.
            validation_data: evaluated after every epoch, unless None.
            schedules: R schedules that differ in seed and learning rate alone.
            program: of a network, what is trained and validated, such as ``deterministic``.
            validation_particles: M of the validation's estimate.
        """
        common = _common(schedules, len(networks))
        replicated = ReplicatedSFNN(networks)
        model = program(replicated)
        no_rows = torch.zeros(0, 1, dtype=torch.float32)
        return ReplicaTrainer(
            model=model,
            guide=PriorProposal(model),
            estimator=estimator,
            train_data=train_data,
            validation_data=validation_data or Split(no_rows, no_rows),
            schedule=common,
            parameters=list(replicated.parameters()),
            validation_particles=validation_particles,
            replicated=replicated,
            schedules=schedules,
            program=program,
        )

    def networks(self) -> list[SFNN]:
        """Copies of the replicas, as networks of their own."""
        return [self.replicated.network(number) for number in range(len(self.schedules))]

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "validations": self.validations}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.validations[:] = [list(values) for values in state["validations"]]

    def checked_state(self, state: dict[str, Any]) -> dict[str, Any]:
        loaded = super().checked_state(state)
        stored, epochs = state["validations"], len(loaded["history"])
        count = len(self.schedules) if len(self.validation_data) else 0
        # Between an epoch's validation and its entry in the history nothing is saved.
        if not isinstance(stored, list) or len(stored) != epochs:
            raise StateError(f"validations: expected a list of {epochs} epochs")
        for number, values in enumerate(stored):
            if not isinstance(values, list) or len(values) != count:
                raise StateError(f"validations[{number}]: expected {count} numbers")
            for value in values:
                stored_number(f"validations[{number}]", value, float, -math.inf, math.inf)
        return loaded

    def minibatches(self, epoch: int) -> Sequence[Tensor]:
        """Rows ``(B, R)`` of every step."""
        count = len(self.epoch_data)
        orders = [minibatches(count, schedule, epoch) for schedule in self.schedules]
        return [torch.stack(rows, 1) for rows in zip(*orders, strict=True)]

    def compute_gradients(self, rows: Tensor) -> float:
        batch_size, replicas = rows.shape
        x, y = self.epoch_data.x[rows.T], self.epoch_data.y[rows.T]
        loss = self.loss_and_grads(x, y, batch_size)
        # With momentum too, to scale gradients is to scale the learning rate.
        for parameter in self.trained:
            if parameter.grad is not None:
                rates = self._rates.to(parameter.grad)
                parameter.grad.mul_(rates.view(-1, *[1] * (parameter.dim() - 1)))
        return -loss / replicas

    def diagnose(self, what: str, rows: Tensor) -> NonFiniteError:
        step, replicas = self.steps + 1, len(self.schedules)
        return NonFiniteError(
            f"{what} at step {step} in one of {replicas} replicas: train them one by one to see "
            "which, or lower their learning rates",
            {"step": step, "what": what, "minibatch": rows.tolist()},
        )

    def validate(self, on_batch: Callable[[int], None]) -> float:
        found = [
            self.log_likelihood_of(
                self.program(network), self.validation_data, on_batch, schedule.seed
            )
            .mean()
            .item()
            for network, schedule in zip(self.networks(), self.schedules, strict=True)
            if len(self.validation_data)
        ]
        self.validations.append(found)
        return sum(found) / len(found) if found else float("nan")


def _common(schedules: Sequence[Schedule], replicas: int) -> Schedule:
    if len(schedules) != replicas or not schedules:
        raise ValueError(f"{replicas} networks and {len(schedules)} schedules: give one for each")
    kinds = {replace(schedule, seed=0, learning_rate=1.0) for schedule in schedules}
    if any(schedule.weight_decay for schedule in schedules):
        raise ValueError("replicas have no weight decay: train the networks one by one")
    if len(kinds) != 1:
        raise ValueError("the schedules of replicas may differ in seed and learning rate alone")
    return replace(schedules[0], learning_rate=1.0)
