"""``sfnn train``."""

from pathlib import Path
from typing import Annotated

import typer

from sfnn_pyro.cli.display import progress_bar
from sfnn_pyro.data import DATASET_NAMES, Dataset
from sfnn_pyro.distributed import (
    SPLITS,
    TIMEOUT_MINUTES,
    ProcessGroup,
    joined,
    launched,
    own_device,
)
from sfnn_pyro.estimators import ESTIMATORS
from sfnn_pyro.models import SFNN
from sfnn_pyro.runs import NETWORKS, RunConfig, RunError, read_config, train_run
from sfnn_pyro.training import Schedule, Trainer

_ALLOWED_WITH_RESUME = {"resume", "checkpoint_minutes", "device", "split", "timeout_minutes"}


def train(
    context: typer.Context,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder to which the run is written. It must not hold another run."),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(help="Folder of a run to resume, with the configuration stored in it."),
    ] = None,
    data: Annotated[
        str, typer.Option(help=f"Data set to train on, one of {', '.join(DATASET_NAMES)}.")
    ] = RunConfig.data,
    network: Annotated[
        str, typer.Option(help=f"Kind of network, one of {', '.join(NETWORKS)}.")
    ] = RunConfig.network,
    hidden: Annotated[
        str, typer.Option(help="Widths of the hidden layers, separated by commas.")
    ] = ",".join(map(str, RunConfig.hidden)),
    estimator: Annotated[
        str, typer.Option(help=f"Gradient estimator, one of {', '.join(ESTIMATORS)}.")
    ] = RunConfig.estimator,
    particles: Annotated[
        int, typer.Option(help="Number of particles M that the estimator draws per datapoint.")
    ] = RunConfig.particles,
    epochs: Annotated[
        int, typer.Option(help="Number of passes over the training data.")
    ] = Schedule.epochs,
    learning_rate: Annotated[
        float, typer.Option(help="Highest learning rate of the schedule.")
    ] = Schedule.learning_rate,
    batch_size: Annotated[
        int, typer.Option(help="Number of datapoints in a minibatch.")
    ] = Schedule.batch_size,
    momentum: Annotated[
        float, typer.Option(help="Momentum of stochastic gradient descent.")
    ] = Schedule.momentum,
    seed: Annotated[
        int, typer.Option(help="Seed of the weights, the order of the data and the particles.")
    ] = Schedule.seed,
    checkpoint_minutes: Annotated[
        float,
        typer.Option(
            help="Longest time between two checkpoints, in minutes. 0 saves after every step."
        ),
    ] = 5.0,
    device: Annotated[str, typer.Option(help="Device to compute on, cpu or cuda.")] = "cpu",
    split: Annotated[
        str,
        typer.Option(help=f"What several processes divide among them, {' or '.join(SPLITS)}."),
    ] = "data",
    timeout_minutes: Annotated[
        float,
        typer.Option(
            help="Minutes without an answer from another process after which it counts as lost."
        ),
    ] = TIMEOUT_MINUTES,
) -> None:
    """Train a network and write a run folder.

    Ctrl-C saves a checkpoint and exits; --resume continues a run after this or any other end. To
    train on several processes: torchrun --nproc-per-node 2 -m sfnn_pyro train ...; the same
    command, started again, resumes the run.
    """
    if (out is None) == (resume is None):
        raise ValueError("give --out for a new run, or --resume to resume one")
    if split not in SPLITS:
        raise ValueError(f"split={split!r}: choose one of {', '.join(SPLITS)}")
    if resume is not None:
        _refuse_others(context, _ALLOWED_WITH_RESUME)
        config, folder = read_config(resume), resume
    else:
        assert out is not None
        if not launched():
            _refuse_occupied(out)
        folder = out
        config = RunConfig(
            data=data,
            network=network,
            hidden=_widths(hidden),
            estimator=estimator,
            particles=particles,
            schedule=Schedule(
                epochs=epochs,
                learning_rate=learning_rate,
                batch_size=batch_size,
                momentum=momentum,
                seed=seed,
            ),
        )
    with joined(timeout_minutes) as group:
        train_with_progress(config, folder, checkpoint_minutes, own_device(device), group, split)
    if group.is_first:
        print(f"Complete: {folder}. Next: sfnn evaluate {folder}; sfnn complete {folder}")


def train_with_progress(
    config: RunConfig,
    folder: Path,
    checkpoint_minutes: float = 5.0,
    device: str = "cpu",
    group: ProcessGroup | None = None,
    split: str = "data",
) -> tuple[SFNN, Dataset]:
    """Trains in a run folder, as ``train_run`` does, and shows the progress."""
    group = group or ProcessGroup()
    with progress_bar("{task.fields[note]}", disable=not group.is_first) as progress:
        task = progress.add_task("train", total=1.0, note="")

        def on_step(trainer: Trainer, mean: float) -> None:
            note = f"{mean:8.2f} nats, rate {trainer.learning_rate:.3g}"
            progress.update(task, completed=trainer.progress, note=note)

        result = train_run(
            config,
            folder,
            checkpoint_minutes=checkpoint_minutes,
            on_step=on_step,
            device=device,
            group=group,
            split=split,
        )
        progress.update(task, completed=1.0)
    return result


def _refuse_others(context: typer.Context, allowed: set[str]) -> None:
    """Refuses options that would have no effect together with ``--resume``."""
    for name in context.params:
        source = context.get_parameter_source(name)
        if name not in allowed and source is not None and source.name == "COMMANDLINE":
            option = "--" + name.replace("_", "-")
            raise ValueError(f"{option} has no effect with --resume: leave it out")


def _refuse_occupied(folder: Path) -> None:
    if (folder / "model.pt").exists():
        raise RunError(f"{folder} holds a trained model already: give another --out")
    if (folder / "config.json").exists():
        raise RunError(
            f"{folder} holds a run that is not complete: go on with 'sfnn train --resume "
            f"{folder}', or give another --out"
        )


def _widths(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"hidden={text!r}: give widths like 200,200") from None
