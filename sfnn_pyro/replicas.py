"""Many trainings at once: seeds and learning rates as replicas of one batched model."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import pyro
import torch
from pyro import poutine
from pyro.infer import ELBO, SVI
from torch import Tensor

from sfnn_pyro.data import Split
from sfnn_pyro.guides import PriorProposal
from sfnn_pyro.models import SFNN, ReplicatedSFNN
from sfnn_pyro.optim import JointOptim, triangular
from sfnn_pyro.training import Schedule, TrainingError, minibatches


def train_replicas(
    networks: Sequence[SFNN],
    estimator: ELBO,
    train: Split,
    schedules: Sequence[Schedule],
    on_epoch: Callable[[int], None] | None = None,
) -> list[SFNN]:
    """Trains R networks in one process, each by its own seed and learning rate.

    Every replica sees its own order of the data and its own gradient; on the same random
    numbers it ends where its single training ends. It pays where a single step is mostly
    overhead: small networks, few particles, or a GPU.

    Arguments:
        networks: R networks of one shape; they are not changed.
        estimator: an estimator that takes the prior as proposal.
        train: the training data of all.
        schedules: R schedules that differ in seed and learning rate alone.
        on_epoch: called after every epoch with its number.

    Returns:
        The R trained networks.

    Raises:
        ValueError: the schedules differ in more, or their number is not that of the networks.
        TrainingError: an objective is not finite.

    Example:
        >>> from sfnn_pyro.data import load_dataset
        >>> from sfnn_pyro.estimators import G3
        >>> digits = load_dataset("digits")
        >>> schedules = [Schedule(epochs=1, seed=seed) for seed in range(3)]
        >>> networks = [SFNN([32, 10, 32]) for _ in schedules]
        >>> len(train_replicas(networks, G3(5), digits.train, schedules))
        3
    """
    common = _common(schedules, len(networks))
    model = ReplicatedSFNN(networks)
    rates = torch.tensor([schedule.learning_rate for schedule in schedules])
    optimizer = _PerReplica(torch.optim.SGD(model.parameters(), lr=1, momentum=common.momentum))
    optimizer.rates = rates
    steps = math.ceil(len(train) / common.batch_size)
    factor = triangular(common.epochs * steps, min(common.rising_epochs, common.epochs / 2) * steps)
    torch.manual_seed(common.seed)
    with pyro.get_param_store().scope():
        svi = SVI(model, PriorProposal(model), optimizer, estimator)
        for epoch in range(common.epochs):
            orders = [minibatches(len(train), schedule, epoch) for schedule in schedules]
            for number, rows in enumerate(zip(*orders, strict=True), epoch * steps):
                optimizer.optimizer.param_groups[0]["lr"] = factor(number)
                index = torch.stack(rows)  # (R, B)
                with poutine.scale(scale=1 / index.shape[1]):
                    loss = svi.step(train.x[index], train.y[index])
                if not math.isfinite(loss):
                    raise TrainingError(
                        f"the objective of {len(networks)} replicas is {-loss} at step "
                        f"{number + 1}: train them one by one to see which, or lower their rates"
                    )
            if on_epoch is not None:
                on_epoch(epoch + 1)
    return [model.network(replica) for replica in range(len(networks))]


class _PerReplica(JointOptim):
    """One learning rate per replica: with momentum, scaling gradients is scaling the rate."""

    rates: Tensor

    def __call__(self, params, *args, **kwargs) -> None:  # type: ignore[no-untyped-def]
        for group in self.optimizer.param_groups:
            for parameter in group["params"]:
                rates = self.rates.to(parameter)
                parameter.grad.mul_(rates.view(-1, *[1] * (parameter.dim() - 1)))
        super().__call__(params, *args, **kwargs)


def _common(schedules: Sequence[Schedule], replicas: int) -> Schedule:
    if len(schedules) != replicas or not schedules:
        raise ValueError(f"{replicas} networks and {len(schedules)} schedules: give one for each")
    kinds = {replace(schedule, seed=0, learning_rate=1.0) for schedule in schedules}
    if len(kinds) != 1:
        raise ValueError("the schedules of replicas may differ in seed and learning rate alone")
    return schedules[0]
