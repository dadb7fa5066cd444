"""The command line: ``sfnn demo | train | evaluate | complete | data``."""

import gc
import json
import math
import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from sfnn_pyro.checkpoints import train_run
from sfnn_pyro.completions import draw_completions, sample_completions
from sfnn_pyro.data import DATASET_NAMES, Dataset, download, load_dataset
from sfnn_pyro.distributed import (
    SPLITS,
    TIMEOUT_MINUTES,
    Ranks,
    joined,
    launched,
    own_device,
)
from sfnn_pyro.estimators import ESTIMATORS
from sfnn_pyro.evaluation import log_likelihood
from sfnn_pyro.experiments.cli import reproduce
from sfnn_pyro.files import save_figure, write_text
from sfnn_pyro.interrupts import Interrupted
from sfnn_pyro.memory import keep_pages
from sfnn_pyro.models import SFNN
from sfnn_pyro.runs import NETWORKS, RunConfig, RunError, load_model, machine, read_config
from sfnn_pyro.training import Schedule, Trainer, TrainingError

app = typer.Typer(
    help="Stochastic feedforward neural networks in Pyro.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
data_app = typer.Typer(help="Data sets: list, download.", no_args_is_help=True)
app.add_typer(data_app, name="data")
app.command()(reproduce)
console = Console()
INTERRUPTED = 130
_WITH_RESUME = {"resume", "checkpoint_minutes", "device", "split", "timeout_minutes"}

RunFolder = Annotated[
    Path,
    typer.Argument(help="Folder that 'sfnn train' wrote, or a model file such as its best.pt."),
]
Particles = Annotated[int, typer.Option(help="Particles M of the estimate.")]


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the models and the picture.")] = Path(
        "demo"
    ),
    epochs: Annotated[int, typer.Option(help="Passes over the training data.")] = 40,
    seed: Annotated[int, typer.Option(help="Of weights, data order and particles.")] = 0,
) -> None:
    """Train on the embedded 8 x 8 digits, compare with a deterministic network, draw completions.

    Takes about half a minute on two cores; what an earlier demo trained in the folder is kept.
    """
    schedule = Schedule(epochs=epochs, learning_rate=0.3, batch_size=20, seed=seed)
    configs = {
        "stochastic (G3, M = 20)": RunConfig(hidden=(60, 60), schedule=schedule),
        "deterministic": RunConfig(
            network="deterministic", hidden=(60, 60), particles=1, schedule=schedule
        ),
    }
    table = Table("network", "test log-likelihood, nats per image")
    for name, config in configs.items():
        folder = out / config.network
        model, data = _train(config, folder)
        values = _evaluate(model, config, data, "test", 100)
        table.add_row(name, _with_error(values))
    console.print(table)
    picture = out / "completions.png"
    _complete(out / "sfnn", picture, rows=10, samples=10, seed=seed)
    print(f"The lower halves of test digits, completed: {picture}")


@app.command()
def train(
    context: typer.Context,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the run; must not hold another.")
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(help="Go on with the run in this folder, as it was configured."),
    ] = None,
    data: Annotated[str, typer.Option(help=f"One of {', '.join(DATASET_NAMES)}.")] = "digits",
    network: Annotated[str, typer.Option(help=f"One of {', '.join(NETWORKS)}.")] = "sfnn",
    hidden: Annotated[str, typer.Option(help="Widths of the hidden layers.")] = "200,200",
    estimator: Annotated[str, typer.Option(help=f"One of {', '.join(ESTIMATORS)}.")] = "g3",
    particles: Annotated[int, typer.Option(help="Particles M.")] = 20,
    epochs: Annotated[int, typer.Option(help="Passes over the training data.")] = 50,
    learning_rate: Annotated[float, typer.Option(help="Its maximum.")] = 0.1,
    batch_size: Annotated[int, typer.Option(help="Datapoints in a minibatch.")] = 100,
    momentum: Annotated[float, typer.Option(help="Of the gradient descent.")] = 0.9,
    seed: Annotated[int, typer.Option(help="Of weights, data order and particles.")] = 0,
    checkpoint_minutes: Annotated[
        float, typer.Option(help="Between checkpoints; 0 for one after every step.")
    ] = 5.0,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    split: Annotated[
        str, typer.Option(help=f"What several processes divide: {' or '.join(SPLITS)}.")
    ] = "data",
    timeout_minutes: Annotated[
        float, typer.Option(help="Without an answer from another process, until it counts as lost.")
    ] = TIMEOUT_MINUTES,
) -> None:
    """Train a network and write the run's folder.

    Ctrl-C saves and leaves; --resume goes on from there, and from any other end. On several
    processes: torchrun --nproc-per-node 2 -m sfnn_pyro train ...; started again by the same
    command, they go on.
    """
    if (out is None) == (resume is None):
        raise ValueError("give --out for a new run, or --resume to go on with one")
    if split not in SPLITS:
        raise ValueError(f"split={split!r}: choose one of {', '.join(SPLITS)}")
    if resume is not None:
        _refuse_others(context, _WITH_RESUME)
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
    with joined(timeout_minutes) as ranks:
        _train(config, folder, checkpoint_minutes, own_device(device), ranks, split)
    if ranks.first:
        print(f"Complete: {folder}. Next: sfnn evaluate {folder}; sfnn complete {folder}")


@app.command()
def evaluate(
    run: RunFolder,
    particles: Particles = 100,
    split: Annotated[str, typer.Option(help="test, validation or train.")] = "test",
) -> None:
    """Estimate the likelihood of a split under a trained network."""
    model, config, data = load_model(run)
    values = _evaluate(model, config, data, split, particles)
    result = {
        "split": split,
        "particles": particles,
        "datapoints": len(values),
        "negative_log_likelihood": -values.mean().item(),
        "standard_error": _standard_error(values),
        "config": json.loads(config.to_json()),
        "machine": machine(),
    }
    name = f"evaluation-{split}-{particles}.json"
    path = run / name if run.is_dir() else run.with_name(f"{run.stem}-{name}")
    write_text(path, json.dumps(result, indent=2) + "\n")
    print(f"negative log-likelihood, {split}, M = {particles}: {_with_error(-values)} nats")
    print(f"Wrote {path}")


@app.command()
def complete(
    run: RunFolder,
    out: Annotated[
        Path | None, typer.Option(help="Picture; RUN/completions.png unless given.")
    ] = None,
    rows: Annotated[int, typer.Option(help="Test images.")] = 12,
    samples: Annotated[int, typer.Option(help="Completions of each.")] = 10,
    seed: Annotated[int, typer.Option(help="Of images and samples.")] = 0,
) -> None:
    """Draw test images, what the network saw of them, and its completions."""
    folder = run if run.is_dir() else run.parent
    picture = out or folder / "completions.png"
    _complete(run, picture, rows, samples, seed)
    print(f"Wrote {picture}")


@data_app.command("list")
def data_list() -> None:
    """Say which data sets are known and which are here."""
    table = Table("name", "here", "train / validation / test", "x -> y")
    for name in DATASET_NAMES:
        try:
            data = load_dataset(name)
        except ValueError as error:
            table.add_row(name, "no", str(error), "")
            continue
        sizes = " / ".join(f"{len(s):,}" for s in (data.train, data.validation, data.test))
        table.add_row(name, "yes", sizes, f"{data.x_size} -> {data.y_size}")
    console.print(table)


@data_app.command("download")
def data_download(
    name: Annotated[str, typer.Argument(help="mnist or olivetti.")],
) -> None:
    """Download a data set into $SFNN_DATA, else the user's cache, and verify its checksum."""
    print(f"Wrote {download(name)}")


def main() -> None:
    """Runs the command line; an error is one line on standard error and a nonzero exit code."""
    keep_pages()
    try:
        code = app(standalone_mode=False)
    except Interrupted as error:
        _fail(str(error), 128 + error.number)
    except (ValueError, TrainingError, OSError) as error:
        _fail(_one_line(error))
    except Exception as error:
        if _is_out_of_memory(error):
            _fail("out of memory: give fewer --particles, a smaller --batch-size or --hidden")
        if not hasattr(error, "format_message"):
            raise
        if message := error.format_message():
            _fail(f"{message} (see 'sfnn --help')")
        code = 2  # the help was shown instead
    if code == INTERRUPTED:
        _fail("interrupted", code)
    _leave(code or 0)


def _fail(message: str, code: int = 2) -> NoReturn:
    who = f"rank {os.environ['RANK']}: " if launched() else ""
    print(f"sfnn: {who}{message}", file=sys.stderr)
    _leave(code)


def _leave(code: int) -> NoReturn:
    gc.freeze()  # spares the interpreter a last collection, which takes over a second
    sys.exit(code)


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error).partition("\n")[0] or type(error).__name__


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and "allocate memory" in str(error)
    )


def _refuse_others(context: typer.Context, allowed: set[str]) -> None:
    """Refuses options that would have no effect beside the others."""
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


def _train(
    config: RunConfig,
    folder: Path,
    checkpoint_minutes: float = 5.0,
    device: str = "cpu",
    ranks: Ranks | None = None,
    split: str = "data",
) -> tuple[SFNN, Dataset]:
    ranks = ranks or Ranks()
    with _progress("{task.fields[note]}", disable=not ranks.first) as progress:
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
            ranks=ranks,
            split=split,
        )
        progress.update(task, completed=1.0)
    return result


def _evaluate(
    model: SFNN, config: RunConfig, data: Dataset, split: str, particles: int
) -> torch.Tensor:
    if split not in ("train", "validation", "test"):
        raise ValueError(f"split={split!r}: choose train, validation or test")
    part = getattr(data, split)
    torch.manual_seed(config.schedule.seed)
    with _progress("") as progress:
        task = progress.add_task("evaluate", total=len(part))
        return log_likelihood(
            config.program(model),
            part.x,
            part.y,
            num_particles=particles,
            on_batch=lambda count: progress.update(task, advance=count),
        )


def _complete(run: Path, picture: Path, rows: int, samples: int, seed: int) -> None:
    model, config, data = load_model(run)
    if data.x_shape is None or data.y_shape is None:
        raise ValueError(f"{run}: the data set {data.name} has no images to complete")
    if not 1 <= rows <= len(data.test):
        raise ValueError(f"rows={rows}: must lie between 1 and {len(data.test)}")
    generator = torch.Generator().manual_seed(seed)
    index = torch.randperm(len(data.test), generator=generator)[:rows]
    x, y = data.test.x[index], data.test.y[index]
    torch.manual_seed(seed)
    completions = sample_completions(config.program(model), x, samples)
    figure = draw_completions(
        x,
        y,
        completions,
        x_shape=data.x_shape,
        y_shape=data.y_shape,
    )
    save_figure(figure, picture)


def _progress(note: str, *, disable: bool = False) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:3.0f}%"),
        TimeRemainingColumn(elapsed_when_finished=True),
        TextColumn(note),
        console=console,
        disable=disable,
    )


def _widths(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"hidden={text!r}: give widths like 200,200") from None


def _standard_error(values: torch.Tensor) -> float:
    return (values.std() / math.sqrt(len(values))).item() if len(values) > 1 else math.nan


def _with_error(values: torch.Tensor) -> str:
    return f"{values.mean().item():.2f} ± {_standard_error(values):.2f}"
