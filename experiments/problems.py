"""What a run trains: its data, network, proposal and estimator."""

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import torch
from pyro.infer import ELBO

from sfnn_pyro.data import Dataset, Split, binarise, load_dataset, mnist_grey
from sfnn_pyro.data.images import halves
from sfnn_pyro.estimators import ESTIMATORS, Compiled, Resampled
from sfnn_pyro.experiments.grid import GridError, Run
from sfnn_pyro.experiments.theorem1 import Unit, coin_dataset
from sfnn_pyro.guides import MixtureProposal, PriorProposal, RecognitionNetwork
from sfnn_pyro.models import SFNN, HybridSFNN
from sfnn_pyro.reparam import deterministic
from sfnn_pyro.runs.configuration import validation_particles
from sfnn_pyro.training import Schedule, Trainer

EPOCH_SEED = 7_000_003

FOLLOWED = 2000
"""Validation data evaluated after every epoch; all of them when the training has ended."""


def load_data(run: Run, device: str = "cpu") -> Dataset:
    """The data of a run, float32 on a device."""
    if run.data == "coin":
        return coin_dataset()
    data = load_dataset(run.data, split_seed=run.seed if run.split_by_seed else 0)
    train = data.train
    if run.train_size:
        train = Split(train.x[: run.train_size], train.y[: run.train_size])
    parts = (train, data.validation, data.test)
    train, validation, test = (Split(part.x.to(device), part.y.to(device)) for part in parts)
    return replace(data, train=train, validation=validation, test=test)


def training_data(run: Run, data: Dataset) -> Callable[[int], Split]:
    """The training data of every epoch, from 0: noisy or binarised anew if the run says so."""
    grey = mnist_grey()["train"][: len(data.train)] if _resampled(run) else None
    if grey is None and not run.noise:
        return lambda epoch: data.train

    def of_epoch(epoch: int) -> Split:
        generator = torch.Generator().manual_seed(run.seed * EPOCH_SEED + epoch)
        x, y = data.train.x, data.train.y
        if grey is not None:
            fresh = halves(binarise(grey, generator))
            x, y = fresh.x.to(x), fresh.y.to(y)
        if run.noise:
            x = x + run.noise * torch.randn(x.shape, generator=generator, dtype=x.dtype).to(x)
        return Split(x, y)

    return of_epoch


def make_model(run: Run, data: Dataset, device: str = "cpu") -> Any:
    """The network of a run, initialised from its seed."""
    sizes = [data.x_size, *run.hidden, data.y_size]
    with torch.random.fork_rng():
        torch.manual_seed(run.seed)
        if run.network == "unit":
            model: Any = Unit()
        elif run.network in ("hybrid", "coins"):
            learned = run.network == "hybrid"
            model = HybridSFNN(sizes, data.likelihood, stochastic=run.stochastic, learned=learned)
        else:
            model = SFNN(sizes, data.likelihood)
    with torch.no_grad():
        for parameter in model.parameters():  # biases are zero
            parameter.mul_(run.gain)
    return model.to(device, torch.float32)


def programs(run: Run, model: Any) -> dict[str, Any]:
    """What is evaluated: the network as trained, and for A also with stochastic units (B)."""
    if run.network == "deterministic":
        return {"trained": deterministic(model), "stochastic": model}
    return {"trained": model}


def make_trainer(run: Run, model: Any, data: Dataset) -> Trainer:
    """The trainer of a run, at its beginning."""
    program = programs(run, model)["trained"]
    guide: Any = PriorProposal(program)
    parameters = list(model.parameters())
    if run.hidden_rate != 1:
        for parameter in model.layers[:-1].parameters():
            parameter.register_hook(lambda grad: run.hidden_rate * grad)
    if run.proposal != "prior":
        with torch.random.fork_rng():
            torch.manual_seed(run.seed)
            recognition = RecognitionNetwork(model, run.encoder).to(data.train.x)
        parameters += recognition.parameters()
        guide = (
            recognition if run.proposal == "recognition" else MixtureProposal(guide, recognition)
        )
    return Trainer(
        model=program,
        guide=guide,
        estimator=estimators(run),
        parameters=parameters,
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
    return Split(data.validation.x[:FOLLOWED], data.validation.y[:FOLLOWED])


def make_estimator(run: Run, epoch: int = 0) -> ELBO:
    """The estimator of a run's epoch, from 0, by name."""
    if run.estimator not in ESTIMATORS:
        raise GridError(f"estimator={run.estimator!r}: choose one of {', '.join(ESTIMATORS)}")
    options: dict[str, Any] = {"insomnia": run.insomnia} if run.estimator == "rws" else {}
    estimator = ESTIMATORS[run.estimator](num_particles=run.particles_at(epoch), **options)
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


def _resampled(run: Run) -> bool:
    if run.resample and run.data != "mnist":
        raise GridError(f"resample of data={run.data!r}: only mnist has grey images to sample")
    return run.resample
