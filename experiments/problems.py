"""What a run trains: its data, network, proposal and estimator."""

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import torch
from pyro.infer import ELBO

from sfnn_pyro.data import Dataset, Split, load_dataset
from sfnn_pyro.estimators import ESTIMATORS, Compiled, Resampled
from sfnn_pyro.experiments.grid import GridError, Run
from sfnn_pyro.experiments.theorem1 import Unit, coin_dataset
from sfnn_pyro.runs import run_data
from sfnn_pyro.runs.building import (
    build_estimator,
    build_network,
    build_proposal,
    program_of,
)
from sfnn_pyro.runs.configuration import validation_particles
from sfnn_pyro.training import Schedule, Trainer

FOLLOWED = 2000
"""Validation data evaluated after every epoch; all of them when the training has ended."""


def load_data(run: Run, device: str = "cpu") -> Dataset:
    """The data of a run, float32 on a device."""
    if run.data == "coin":
        return coin_dataset()
    data = load_dataset(run.data, split_seed=run.seed if run.split_by_seed else 0)
    return data.with_training_rows(run.train_size).to(device)


def training_data(run: Run, data: Dataset) -> Callable[[int], Split]:
    """The training data of every epoch, from 0; noisy or binarised anew where the run has it.

    Raises:
        GridError: the data have no grey values to binarise.
    """
    if run.resample and data.fresh is None:
        raise GridError(f"resample of data={run.data!r}: it has no grey values to binarise anew")
    found = run_data.training_data(data, run.seed, "epoch" if run.resample else "", run.noise)
    return found if callable(found) else lambda epoch: found


def make_model(run: Run, data: Dataset, device: str = "cpu") -> Any:
    """The network of a run, initialised from its seed."""
    if run.network == "unit":
        return Unit().to(device, torch.float32)
    sizes = [data.x_size, *run.hidden, data.y_size]
    model = build_network(
        run.network, sizes, data.likelihood, stochastic=run.stochastic, seed=run.seed
    )
    with torch.no_grad():
        for parameter in model.parameters():  # biases are zero
            parameter.mul_(run.gain)
    return model.to(device, torch.float32)


def programs(run: Run, model: Any) -> dict[str, Any]:
    """What is evaluated: the network as trained, and for A also with stochastic units (B)."""
    trained = program_of(run.network, model)
    return {"trained": trained} if trained is model else {"trained": trained, "stochastic": model}


def make_trainer(run: Run, model: Any, data: Dataset) -> Trainer:
    """The trainer of a run, at its beginning."""
    program = programs(run, model)["trained"]
    guide = build_proposal(run.proposal, model, program, encoder=run.encoder, seed=run.seed)
    learned = guide.parameters() if run.proposal != "prior" else ()
    if run.hidden_rate != 1:
        for parameter in model.layers[:-1].parameters():
            parameter.register_hook(lambda grad: run.hidden_rate * grad)
    return Trainer(
        model=program,
        guide=guide,
        estimator=estimators(run),
        parameters=list(dict.fromkeys([*model.parameters(), *learned])),
        train_data=training_data(run, data),
        validation_data=followed(data),
        schedule=make_schedule(run),
        validation_particles=validation_particles(run.particles),
    )


def make_schedule(run: Run) -> Schedule:
    """The schedule of a run."""
    return Schedule(**{field.name: getattr(run, field.name) for field in fields(Schedule)})


def followed(data: Dataset) -> Split:
    """The validation data that a training is followed on."""
    return data.validation.first(FOLLOWED)


def make_estimator(run: Run, epoch: int = 0) -> ELBO:
    """The estimator of a run's epoch, from 0, by name."""
    if run.estimator not in ESTIMATORS:
        raise GridError(f"estimator={run.estimator!r}: choose one of {', '.join(ESTIMATORS)}")
    particles = run.particles_at(epoch)
    estimator = build_estimator(run.estimator, particles, insomnia=run.insomnia)
    if run.kept:
        estimator = Resampled(estimator, run.kept)
    if not run.compile:
        return estimator
    try:
        return Compiled(estimator)
    except ValueError as error:
        raise GridError(f"compile of estimator={run.estimator!r}: {error}") from error


def estimators(run: Run) -> Callable[[int], ELBO]:
    """The estimator of every epoch, from 0; a new one where the number of particles changes."""
    made: dict[int, ELBO] = {}

    def of_epoch(epoch: int) -> ELBO:
        count = run.particles_at(epoch)
        if count not in made:
            made[count] = make_estimator(run, epoch)
        return made[count]

    return of_epoch


def particle_counts(largest: int) -> list[int]:
    """The numbers of test particles at which Figure 1 (right) is drawn.

    Example:
        >>> particle_counts(20)
        [1, 2, 3, 5, 10, 20]
    """
    return [*(count for count in (1, 2, 3, 5, 10, 20, 40, 60) if count < largest), largest]
