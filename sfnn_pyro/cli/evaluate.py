"""``sfnn evaluate``."""

import json
import sys
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor

from sfnn_pyro.cli.display import (
    Json,
    Quiet,
    RunFolder,
    path_option,
    print_json,
    shown_progress,
    strict,
    with_error,
)
from sfnn_pyro.data import Dataset
from sfnn_pyro.evaluation import log_likelihood
from sfnn_pyro.models import SFNN
from sfnn_pyro.runs import (
    MAX_PARTICLES,
    RunConfig,
    RunError,
    load_model,
    machine,
    standard_error,
)
from sfnn_pyro.system.atomic_files import WriteError, write_text
from sfnn_pyro.system.numbers import check_whole

SPLITS = ("train", "validation", "test")


def evaluate(
    run: RunFolder,
    particles: Annotated[
        int, typer.Option(help="Number of particles M of the estimate, per datapoint.")
    ] = 100,
    split: Annotated[
        str, typer.Option(help="Part of the data to evaluate: test, validation or train.")
    ] = "test",
    out: Annotated[
        Path | None,
        path_option("File of the result. If not given, it is written beside the model."),
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Estimate the likelihood of a part of the data under a trained network.

    The result is printed and written to a file; a run that cannot be written is evaluated too.
    """
    model, config, data = load_model(run)
    values = evaluate_split(model, config, data, split, particles, quiet=quiet)
    if values.isnan().any():
        raise RunError(
            f"{run}: the likelihood of {int(values.isnan().sum())} of {len(values)} datapoints is "
            "NaN: train again with a smaller --learning-rate"
        )
    result = strict(
        {
            "split": split,
            "particles": particles,
            "datapoints": len(values),
            "negative_log_likelihood": -values.mean().item(),
            "standard_error": standard_error(values),
            "config": json.loads(config.to_json()),
            "machine": machine(),
        }
    )
    if as_json:
        print_json(result)
    else:
        print(f"negative log-likelihood, {split}, M = {particles}: {with_error(-values)} nats")
    name = f"evaluation-{split}-{particles}.json"
    beside = run / name if run.is_dir() else run.with_name(f"{run.stem}-{name}")
    text = json.dumps(result, indent=2, allow_nan=False) + "\n"
    try:
        write_text(out or beside, text)
    except WriteError as error:
        if out is not None:
            raise
        print(f"sfnn: not kept: {error}; or give --out", file=sys.stderr)
        return
    if not as_json:
        print(f"Wrote {out or beside}")


def evaluate_split(
    model: SFNN,
    config: RunConfig,
    data: Dataset,
    split: str,
    particles: int,
    *,
    quiet: bool = False,
) -> Tensor:
    """Log-likelihood of every datapoint of a split, in nats; shows the progress."""
    if split not in SPLITS:
        raise ValueError(f"split={split!r}: choose train, validation or test")
    check_whole("num_particles", particles, 1, MAX_PARTICLES)
    part = getattr(data, split)
    torch.manual_seed(config.schedule.seed)
    done = 0
    with shown_progress("evaluate", quiet=quiet) as on_progress:

        def on_batch(count: int) -> None:
            nonlocal done
            done += count
            on_progress(done / len(part), "")

        return log_likelihood(
            config.program(model), part.x, part.y, num_particles=particles, on_batch=on_batch
        )
