"""The command line: ``sfnn demo | train | evaluate | complete | data``."""

import json
import math
import sys
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from sfnn_pyro.completions import draw_completions, sample_completions
from sfnn_pyro.data import DATASET_NAMES, Dataset, download, load_dataset
from sfnn_pyro.estimators import ESTIMATORS
from sfnn_pyro.evaluation import log_likelihood
from sfnn_pyro.files import save_figure, write_text
from sfnn_pyro.guides import PriorProposal
from sfnn_pyro.models import SFNN
from sfnn_pyro.runs import NETWORKS, RunConfig, load_model, machine, save_model, write_history
from sfnn_pyro.training import Schedule, Trainer, TrainingError

app = typer.Typer(
    help="Stochastic feedforward neural networks in Pyro.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
data_app = typer.Typer(help="Data sets: list, download.", no_args_is_help=True)
app.add_typer(data_app, name="data")
console = Console()

RunFolder = Annotated[Path, typer.Argument(help="Folder that 'sfnn train' wrote.")]
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

    Takes about half a minute on two cores.
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
    console.print(f"The lower halves of test digits, completed: {picture}")


@app.command()
def train(
    out: Annotated[Path, typer.Option(help="Folder for the run; must not hold another.")],
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
) -> None:
    """Train a network and write the run's folder."""
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
    if (out / "model.pt").exists():
        raise ValueError(f"{out} holds a trained model already: give another --out")
    _train(config, out)
    console.print(f"Wrote {out}. Next: sfnn evaluate {out}; sfnn complete {out}")


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
    path = run / f"evaluation-{split}-{particles}.json"
    write_text(path, json.dumps(result, indent=2) + "\n")
    console.print(
        f"negative log-likelihood, {split}, M = {particles}: {_with_error(-values)} nats ({path})"
    )


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
    picture = out or run / "completions.png"
    _complete(run, picture, rows, samples, seed)
    console.print(f"Wrote {picture}")


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
    console.print(f"Wrote {download(name)}")


def main() -> None:
    """Runs the command line; an error is one line on standard error and a nonzero exit code."""
    try:
        code = app(standalone_mode=False)
    except (ValueError, TrainingError, OSError) as error:
        _fail(str(error).splitlines()[0] if str(error) else type(error).__name__)
    except typer.Abort:
        _fail("interrupted")
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        _fail(f"{error.format_message()} (see 'sfnn --help')")
    sys.exit(code or 0)


def _fail(message: str) -> None:
    print(f"sfnn: {message}", file=sys.stderr)
    sys.exit(2)


def _train(config: RunConfig, folder: Path) -> tuple[SFNN, Dataset]:
    data = config.load_data()
    model = config.make_model(data)
    program = config.program(model)
    trainer = Trainer(
        model=program,
        guide=PriorProposal(program),
        estimator=config.make_estimator(),
        parameters=list(model.parameters()),
        train=data.train,
        validation=data.validation,
        schedule=config.schedule,
        validation_particles=min(config.particles, 20),
    )
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "config.json", config.to_json())
    with _progress("{task.fields[note]}") as progress:
        total = config.schedule.epochs * len(data.train)
        task = progress.add_task("train", total=total, note="")

        def on_step(count: int, mean: float) -> None:
            note = f"{mean:8.2f} nats, rate {trainer.learning_rate:.3g}"
            progress.update(task, advance=count, note=note)

        for _ in trainer.run(on_step):
            write_history(trainer.history, folder / "history.csv")
    save_model(model, config, folder / "model.pt")
    return model, data


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
        title="original, input, completions",
    )
    save_figure(figure, picture)


def _progress(note: str) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:3.0f}%"),
        TimeRemainingColumn(elapsed_when_finished=True),
        TextColumn(note),
        console=console,
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
