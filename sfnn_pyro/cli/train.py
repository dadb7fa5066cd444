"""``sfnn train``."""

import math
import shlex
from pathlib import Path
from typing import Annotated

import typer

from sfnn_pyro.cli.display import (
    Json,
    Quiet,
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
    NETWORKS,
    PRECISIONS,
    PROPOSALS,
    RunConfig,
    RunError,
    read_config,
    train_run,
)
from sfnn_pyro.runs.configuration import proposal_for
from sfnn_pyro.runs.folder import read_history
from sfnn_pyro.runs.presets import PRESETS, preset
from sfnn_pyro.runs.saved_run import model_file
from sfnn_pyro.system.shell_words import command
from sfnn_pyro.training import OPTIMIZERS, Schedule, Trainer, TrainingError

DIVERGED = 3.0
"""How many times the log-likelihood of uniform guesses is no training's result."""

_HOW_IT_RUNS = {"checkpoint_minutes", "device", "split", "timeout_minutes", "quiet", "as_json"}
_ALLOWED_WITH_RESUME = {"resume", *_HOW_IT_RUNS}
_ALLOWED_WITH_PRESET = {"preset_name", "out", "seed", "precision", *_HOW_IT_RUNS}


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
    preset_name: Annotated[
        str | None,
        typer.Option(
            "--preset",
            help=f"A whole configuration by name, one of {', '.join(PRESETS)}: fast trains the "
            "paper's best network of MNIST's completion in a few minutes. Only --seed and "
            "--precision can be chosen beside it.",
        ),
    ] = None,
    data: Annotated[
        str,
        typer.Option(
            help=f"Data to train on: one of {', '.join(DATASET_NAMES)}; or the path of your own, "
            f"one of {', '.join(KINDS)}."
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
        str, typer.Option(help=f"Kind of network, one of {', '.join(NETWORKS)}.")
    ] = RunConfig.network,
    hidden: Annotated[
        str, typer.Option(help="Widths of the hidden layers, separated by commas.")
    ] = ",".join(map(str, RunConfig.hidden)),
    estimator: Annotated[
        str, typer.Option(help=f"Gradient estimator, one of {', '.join(ESTIMATORS)}.")
    ] = RunConfig.estimator,
    proposal: Annotated[
        str | None,
        typer.Option(
            help=f"Where particles are drawn from, one of {', '.join(PROPOSALS)}. If not given, "
            "the prior, or a recognition network for an estimator that cannot take the prior."
        ),
    ] = None,
    encoder: Annotated[
        int, typer.Option(help="Units of a learned proposal's encoder. 0 for no encoder.")
    ] = RunConfig.encoder,
    stochastic: Annotated[
        int,
        typer.Option(
            help="Stochastic units in each hidden layer of the networks hybrid and coins."
        ),
    ] = RunConfig.stochastic,
    kept: Annotated[
        int,
        typer.Option(help="Number of particles that are back-propagated. 0 for all of them."),
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
        float, typer.Option(help="Factor of each parameter that is added to its gradient.")
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
    compile: Annotated[
        bool,
        typer.Option(
            "--compile",
            help="Record the step and compile it, which takes about half a minute once and a few "
            "seconds from then on. It pays from about ten thousand steps.",
        ),
    ] = RunConfig.compile,
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
    quiet: Quiet = False,
    as_json: Json = False,
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
        message = "{option} has no effect with --resume: leave it out"
        _refuse_others(context, _ALLOWED_WITH_RESUME, message)
        config, folder = read_config(resume), resume
    else:
        assert out is not None
        if not launched():
            _refuse_occupied(out)
        folder = out
    if resume is None and preset_name is not None:
        config = preset(preset_name, seed=seed, precision=precision)
        message = f"{{option}} is set by --preset {preset_name}: leave one of the two out"
        _refuse_others(context, _ALLOWED_WITH_PRESET, message)
    elif resume is None:
        config = RunConfig(
            data=data,
            network=network,
            hidden=_widths(hidden),
            estimator=estimator,
            particles=particles,
            proposal=proposal or proposal_for(estimator),
            encoder=encoder,
            stochastic=stochastic,
            kept=kept,
            noise=noise,
            optimizer=optimizer,
            ema=ema,
            patience=patience,
            precision=precision,
            likelihood=likelihood,
            binarise=binarise,
            own=OwnData(
                x=x,
                y=y,
                input=input_part,
                shape=sides(shape),
                scale=scale,
                validation=validation,
                test=test,
                split_seed=split_seed,
            ),
            compile=compile,
            schedule=Schedule(
                epochs=epochs,
                learning_rate=learning_rate,
                batch_size=batch_size,
                momentum=momentum,
                seed=seed,
                weight_decay=weight_decay,
            ),
        )
    resumed = _resume_command(context, folder)
    with joined(timeout_minutes) as group:
        trained = train_with_progress(
            config,
            folder,
            checkpoint_minutes,
            own_device(device),
            group,
            split,
            quiet=quiet,
            resume_command=resumed,
        )
    if group.is_first:
        last = check_not_diverged(folder, trained[1])
        if as_json:
            print_json({"run": str(folder), "complete": True, **last})
        else:
            print(
                f"Complete: {folder}. Next: {shlex.join(['sfnn', 'evaluate', str(folder)])}; "
                f"{shlex.join(['sfnn', 'complete', str(folder)])}"
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
    words = ["sfnn", "train", "--resume", str(folder)]
    for name in ("checkpoint_minutes", "device", "quiet"):
        if _is_given(context, name):
            value = context.params[name]
            words += [_option(name), *([] if value is True else [str(value)])]
    return command(*words)


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _option(name: str) -> str:
    named = {"as_json": "--json", "input_part": "--input", "preset_name": "--preset"}
    return named.get(name, "--" + name.replace("_", "-"))


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
        raise ValueError(f"hidden={text!r}: give widths like 200,200") from None
