"""``sfnn train``."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from sfnn_pyro.cli.display import (
    Json,
    Quiet,
    path_of,
    path_option,
    print_json,
    shown_progress,
)
from sfnn_pyro.cli.own_data import (
    Binarise,
    Likelihood,
    OwnInput,
    OwnScale,
    OwnShape,
    OwnSplitSeed,
    OwnTest,
    OwnValidation,
    OwnX,
    OwnY,
    sides,
)
from sfnn_pyro.cli.trackers import tracked
from sfnn_pyro.data import DATASET_NAMES, Dataset, OwnData
from sfnn_pyro.data.own import KINDS
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
from sfnn_pyro.runs import (
    PRECISIONS,
    PROPOSALS,
    RunConfig,
    RunError,
    flat,
    make_config,
    read_config,
    read_config_file,
    to_toml,
    train_run,
)
from sfnn_pyro.runs.folder import read_history
from sfnn_pyro.runs.presets import PRESETS, preset
from sfnn_pyro.runs.saved_run import model_file
from sfnn_pyro.system.numbers import shown
from sfnn_pyro.system.shell_words import command, quoted
from sfnn_pyro.training import OPTIMIZERS, Callback, Schedule, Trainer, TrainingError

DIVERGED = 3.0
"""How many times the log-likelihood of uniform guesses is no training's result."""

_ALLOWED_WITH_RESUME = {
    "resume",
    "checkpoint_minutes",
    "device",
    "split",
    "timeout_minutes",
    "tracker",
    "print_config",
    "quiet",
    "as_json",
}


# The options that are no part of a configuration; the others are read from the context, which
# knows what was given, by ``_config``.
_NO_CONFIGURATION = {*_ALLOWED_WITH_RESUME, "out", "config_file", "preset_name"}

_ALLOWED_WITH_PRESET = {*_NO_CONFIGURATION, "seed", "precision"} - {"config_file"}


def train(
    context: typer.Context,
    out: Annotated[
        Path | None,
        path_option("Folder to which the run is written. It must not hold another run."),
    ] = None,
    resume: Annotated[
        Path | None,
        path_option("Folder of a run to resume, with the configuration stored in it."),
    ] = None,
    config_file: Annotated[
        Path | None,
        typer.Option(
            "--config",
            parser=path_of,
            metavar="PATH",
            help="TOML file of a configuration, whose keys are the names of the options with _ in "
            "the place of -. An option that is given beside it counts more.",
        ),
    ] = None,
    preset_name: Annotated[
        str | None,
        typer.Option(
            "--preset",
            help=f"A whole configuration by name, one of {', '.join(PRESETS)}: fast trains the "
            "paper's best network of MNIST's completion in a few minutes. Only --seed and "
            "--precision can be chosen beside it.",
        ),
    ] = None,
    print_config: Annotated[
        bool,
        typer.Option("--print-config", help="Print the configuration as TOML, and train nothing."),
    ] = False,
    data: Annotated[
        str,
        typer.Option(
            help=f"Data to train on: one of {', '.join(DATASET_NAMES)}; or the path of your own, "
            f"one of {', '.join(KINDS)}. With --resume, the place to which your own were moved."
        ),
    ] = RunConfig.data,
    x: OwnX = OwnData.x,
    y: OwnY = OwnData.y,
    input_part: OwnInput = OwnData.input,
    shape: OwnShape = "",
    scale: OwnScale = OwnData.scale,
    validation: OwnValidation = OwnData.validation,
    test: OwnTest = OwnData.test,
    split_seed: OwnSplitSeed = OwnData.split_seed,
    likelihood: Likelihood = RunConfig.likelihood,
    binarise: Binarise = RunConfig.binarise,
    network: Annotated[
        str,
        typer.Option(
            help="Kind of network: sfnn, whose hidden units are stochastic; deterministic, where "
            "none is; hybrid, where some of each layer are; or coins, a hybrid whose stochastic "
            "units are fair coins."
        ),
    ] = RunConfig.network,
    hidden: Annotated[
        str, typer.Option(help="Widths of the hidden layers, separated by commas.")
    ] = ",".join(map(str, RunConfig.hidden)),
    estimator: Annotated[
        str,
        typer.Option(
            help=f"Gradient estimator, one of {', '.join(ESTIMATORS)}. The page estimators.md of "
            "the documentation compares them."
        ),
    ] = RunConfig.estimator,
    proposal: Annotated[
        str | None,
        typer.Option(
            help=f"Where particles are drawn from, one of {', '.join(PROPOSALS)}. If not given, "
            "the prior, or a recognition network for an estimator that cannot take the prior."
        ),
    ] = None,
    encoder: Annotated[
        int,
        typer.Option(
            help="Number of units of the hidden layer through which a learned proposal reads input "
            "and target. 0 for no such layer."
        ),
    ] = RunConfig.encoder,
    stochastic: Annotated[
        int,
        typer.Option(
            help="Number of stochastic units in each hidden layer of the networks hybrid and coins."
        ),
    ] = RunConfig.stochastic,
    kept: Annotated[
        int,
        typer.Option(
            help="Number of particles with a gradient, drawn by their weights. 0 for all of them."
        ),
    ] = RunConfig.kept,
    noise: Annotated[
        float,
        typer.Option(
            help="Standard deviation of Gaussian noise that is added to the training inputs, anew "
            "in each epoch. 0 for none."
        ),
    ] = RunConfig.noise,
    optimizer: Annotated[
        str, typer.Option(help=f"Optimizer, one of {', '.join(OPTIMIZERS)}.")
    ] = RunConfig.optimizer,
    weight_decay: Annotated[
        float,
        typer.Option(
            help="Factor by which each parameter is added to its gradient; with adamw, by which it "
            "shrinks in a step, times the learning rate."
        ),
    ] = Schedule.weight_decay,
    ema: Annotated[
        float,
        typer.Option(
            help="Decay of a moving average of the parameters, such as 0.999. The average is what "
            "is validated and kept. 0 for none."
        ),
    ] = RunConfig.ema,
    patience: Annotated[
        int,
        typer.Option(
            help="Number of epochs without a better validation after which the training ends. 0 "
            "for never."
        ),
    ] = RunConfig.patience,
    precision: Annotated[
        str,
        typer.Option(help=f"Precision of the matrix products, one of {', '.join(PRECISIONS)}."),
    ] = RunConfig.precision,
    particles: Annotated[
        int, typer.Option(help="Number of particles M that the estimator draws per datapoint.")
    ] = RunConfig.particles,
    epochs: Annotated[
        int, typer.Option(help="Number of passes over the training data.")
    ] = Schedule.epochs,
    learning_rate: Annotated[
        float,
        typer.Option(
            help="Highest learning rate of the schedule, which rises to it and falls towards 0."
        ),
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
    compile: Annotated[
        bool,
        typer.Option(
            "--compile",
            help="Compile the training step, which takes about half a minute the first time and a "
            "few seconds later. It pays from about ten thousand steps on.",
        ),
    ] = RunConfig.compile,
    device: Annotated[str, typer.Option(help="Device to compute on, cpu or cuda.")] = "cpu",
    split: Annotated[
        str,
        typer.Option(
            help="What several processes divide among them: data, the datapoints of each "
            "minibatch; or particles, those of each datapoint."
        ),
    ] = "data",
    timeout_minutes: Annotated[
        float,
        typer.Option(
            help="Minutes without an answer from another process after which it counts as lost."
        ),
    ] = TIMEOUT_MINUTES,
    tracker: Annotated[
        str,
        typer.Option(
            help="What follows the training: none, or tensorboard, for which events are written "
            "to the folder tensorboard of the run."
        ),
    ] = "none",
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Train a network and write a run folder.

    Ctrl-C saves a checkpoint and exits; --resume continues a run after this or any other end. To
    train on several processes: torchrun --nproc-per-node 2 -m sfnn_pyro train ...; the same
    command, started again, resumes the run.
    """
    if not print_config and (out is None) == (resume is None):
        raise ValueError("give --out for a new run, or --resume to resume one")
    if resume is not None:
        message = "{option} has no effect with --resume: leave it out"
        _refuse_others(context, {*_ALLOWED_WITH_RESUME, "data"}, message)
    if print_config:
        config = _config(context) if resume is None else _stored_config(context, resume)
        if as_json:
            print_json(flat(config))
        else:
            print(to_toml(config), end="")
        return
    if split not in SPLITS:
        raise ValueError(f"split={split!r}: choose one of {', '.join(SPLITS)}")
    if resume is not None:
        config, folder = _stored_config(context, resume), resume
    else:
        assert out is not None
        if not launched():
            _refuse_occupied(out)
        config, folder = _config(context), out
    resumed = _resume_command(context, folder)
    with joined(timeout_minutes) as group, tracked(tracker, folder) as callbacks:
        trained = train_with_progress(
            config,
            folder,
            checkpoint_minutes,
            own_device(device),
            group,
            split,
            quiet=quiet,
            resume_command=resumed,
            callbacks=callbacks if group.is_first else (),
        )
    if group.is_first:
        last = check_not_diverged(folder, trained[1])
        if as_json:
            print_json({"run": str(folder), "complete": True, **last})
        else:
            drawn = trained[1].x_shape is not None and trained[1].y_shape is not None
            then = "complete" if drawn else "sample"
            print(
                f"Complete: {folder}. Next: {quoted('sfnn', 'evaluate', folder)}; "
                f"{quoted('sfnn', then, folder)}"
            )


def train_with_progress(
    config: RunConfig,
    folder: Path,
    checkpoint_minutes: float = 5.0,
    device: str = "cpu",
    group: ProcessGroup | None = None,
    split: str = "data",
    *,
    quiet: bool = False,
    resume_command: str | None = None,
    callbacks: Sequence[Callback] = (),
) -> tuple[SFNN, Dataset]:
    """Trains in a run folder, as ``train_run`` does, and shows the progress."""
    group = group or ProcessGroup()
    with shown_progress("train", quiet=quiet or not group.is_first) as on_progress:

        def on_step(trainer: Trainer, mean: float) -> None:
            epoch = min(1 + (trainer.steps - 1) // trainer.steps_per_epoch, config.schedule.epochs)
            on_progress(
                trainer.progress,
                f"epoch {epoch} of {config.schedule.epochs}, {mean:8.2f} nats, "
                f"rate {trainer.learning_rate:.3g}",
            )

        if config.compile and not (folder / "checkpoint.pt").exists():
            on_progress(0.0, "compiling the step, up to a minute the first time")
        return train_run(
            config,
            folder,
            checkpoint_minutes=checkpoint_minutes,
            on_step=on_step,
            device=device,
            group=group,
            split=split,
            resume_command=resume_command,
            callbacks=callbacks,
        )


def check_not_diverged(folder: Path, data: Dataset) -> dict[str, float]:
    """The last line of a run's history, unless the network became worse than no network.

    Raises:
        TrainingError: the validation log-likelihood is not finite, or far below that of uniform
            guesses.
    """
    history = read_history(folder / "history.csv")
    if not history:
        return {}
    last = {name: float(value) for name, value in history[-1].items()}
    nats = last.get("validation_log_likelihood", math.nan)
    guess = {
        "bernoulli": -math.log(2) * data.y_size,
        "categorical": -math.log(data.y_size),
    }.get(data.likelihood, -math.inf)
    if math.isnan(nats) and not len(data.validation):
        return last
    if not nats >= DIVERGED * guess or math.isinf(nats):
        raise TrainingError(
            f"{folder}: the training diverged: the validation log-likelihood is {nats:.4g} nats, "
            f"that of uniform guesses {guess:.4g}; train again with a smaller --learning-rate "
            "and another --out"
        )
    return last


def _resume_command(context: typer.Context, folder: Path) -> str:
    """What resumes this run, with the options that are not stored in it."""
    if launched():
        return "the same torchrun command"
    words = ["sfnn", "train", "--resume", folder]
    for name in ("checkpoint_minutes", "device", "tracker", "quiet"):
        if _is_given(context, name):
            value = context.params[name]
            words += [_option(name), *([] if value is True else [str(value)])]
    return command(*words)


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _option(name: str) -> str:
    named = {
        "as_json": "--json",
        "input_part": "--input",
        "config_file": "--config",
        "preset_name": "--preset",
    }
    return named.get(name, "--" + name.replace("_", "-"))


def _config(context: typer.Context) -> RunConfig:
    """The configuration of the options that are given and of ``--config`` or ``--preset``.

    Raises:
        RunError: the message names the file, if a value is at odds there.
        ValueError: an option is given that the preset sets.
    """
    if (name := context.params["preset_name"]) is not None:
        config = preset(name, seed=context.params["seed"], precision=context.params["precision"])
        message = f"{{option}} is set by --preset {name}: leave one of the two out"
        _refuse_others(context, _ALLOWED_WITH_PRESET, message)
        return config
    path = context.params["config_file"]
    table: dict[str, Any] = {} if path is None else read_config_file(path)
    for name, value in context.params.items():
        if name in _NO_CONFIGURATION or not _is_given(context, name):
            continue
        read = {"hidden": _widths, "shape": sides}.get(name)
        key = {"input_part": "input"}.get(name, name)
        table[key] = value if read is None else read(value)
    try:
        return make_config(table)
    except RunError as error:
        if path is None:
            raise
        raise RunError(f"{path}: {error}") from error


def _stored_config(context: typer.Context, folder: Path) -> RunConfig:
    """The configuration of a run folder, with its data where --data says, if it is given."""
    config = read_config(folder)
    return config.with_data_at(context.params["data"]) if _is_given(context, "data") else config


def _refuse_others(context: typer.Context, allowed: set[str], message: str) -> None:
    """Refuses options that would have no effect; the message has a place for the option."""
    for name in context.params:
        if name not in allowed and _is_given(context, name):
            raise ValueError(message.format(option=_option(name)))


def _refuse_occupied(folder: Path) -> None:
    if model_file(folder) is not None:
        raise RunError(f"{folder} holds a trained model already: give another --out")
    if (folder / "config.json").exists():
        raise RunError(
            f"{folder} holds a run that is not complete: go on with "
            f"{command('sfnn', 'train', '--resume', folder)}, or give another --out"
        )


def _widths(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"hidden={shown(text)}: give widths like 200,200") from None
