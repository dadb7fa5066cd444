"""``sfnn evaluate``."""

import json
from typing import Annotated

import torch
import typer
from torch import Tensor

from sfnn_pyro.cli.display import RunFolder, progress_bar, standard_error, with_error
from sfnn_pyro.data import Dataset
from sfnn_pyro.evaluation import log_likelihood
from sfnn_pyro.models import SFNN
from sfnn_pyro.runs import RunConfig, load_model, machine
from sfnn_pyro.system.atomic_files import write_text


def evaluate(
    run: RunFolder,
    particles: Annotated[
        int, typer.Option(help="Number of particles M of the estimate, per datapoint.")
    ] = 100,
    split: Annotated[
        str, typer.Option(help="Part of the data to evaluate: test, validation or train.")
    ] = "test",
) -> None:
    """Estimate the likelihood of a part of the data under a trained network."""
    model, config, data = load_model(run)
    values = evaluate_split(model, config, data, split, particles)
    result = {
        "split": split,
        "particles": particles,
        "datapoints": len(values),
        "negative_log_likelihood": -values.mean().item(),
        "standard_error": standard_error(values),
        "config": json.loads(config.to_json()),
        "machine": machine(),
    }
    name = f"evaluation-{split}-{particles}.json"
    path = run / name if run.is_dir() else run.with_name(f"{run.stem}-{name}")
    write_text(path, json.dumps(result, indent=2) + "\n")
    print(f"negative log-likelihood, {split}, M = {particles}: {with_error(-values)} nats")
    print(f"Wrote {path}")


def evaluate_split(
    model: SFNN, config: RunConfig, data: Dataset, split: str, particles: int
) -> Tensor:
    """Log-likelihood of every datapoint of a split, in nats, with a progress bar."""
    if split not in ("train", "validation", "test"):
        raise ValueError(f"split={split!r}: choose train, validation or test")
    part = getattr(data, split)
    torch.manual_seed(config.schedule.seed)
    with progress_bar("") as progress:
        task = progress.add_task("evaluate", total=len(part))
        return log_likelihood(
            config.program(model),
            part.x,
            part.y,
            num_particles=particles,
            on_batch=lambda count: progress.update(task, advance=count),
        )
