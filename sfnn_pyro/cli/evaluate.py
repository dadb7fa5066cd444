"""``sfnn evaluate``."""

import json
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor

from sfnn_pyro.cli.display import (
    Json,
    MovedData,
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
    SavedRun,
    load_run,
    machine,
    standard_error,
)
from sfnn_pyro.system.atomic_files import WriteError, write_text
from sfnn_pyro.system.numbers import check_whole
from sfnn_pyro.system.streams import say

SPLITS = ("train", "validation", "test")
PROPOSALS = ("prior", "guide")


def evaluate(
    run: RunFolder,
    particles: Annotated[
        int, typer.Option(help="Number of particles M of the estimate, per datapoint.")
    ] = 100,
    split: Annotated[
        str, typer.Option(help="Part of the data to evaluate: test, validation or train.")
    ] = "test",
    proposal: Annotated[
        str,
        typer.Option(
            help="Where particles are drawn from: prior, or guide for the proposal that was "
            "learned by a run with --proposal recognition or mixture."
        ),
    ] = "prior",
    out: Annotated[
        Path | None,
        path_option("File of the result. If not given, it is written beside the model."),
    ] = None,
    moved: MovedData = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Estimate the likelihood of a part of the data under a trained network.

    The mean negative log-likelihood of a datapoint, in nats, and its standard error are printed and
    written to a file; a run that cannot be written is evaluated too.
    """
    _check(split, particles)
    saved = load_run(run, moved)
    guide = chosen_guide(saved, proposal, run)
    values = evaluate_split(
        saved.model, saved.config, saved.data, split, particles, guide=guide, quiet=quiet
    )
    if values.isnan().any():
        raise RunError(
            f"{run}: the likelihood of {int(values.isnan().sum())} of {len(values)} datapoints is "
            "NaN: train again with a smaller --learning-rate"
        )
    result = strict(
        {
            "split": split,
            "particles": particles,
            "proposal": proposal,
            "datapoints": len(values),
            "negative_log_likelihood": -values.mean().item(),
            "standard_error": standard_error(values),
            "config": json.loads(saved.config.to_json()),
            "machine": machine(),
        }
    )
    if as_json:
        print_json(result)
    else:
        drawn = "" if guide is None else ", from the guide"
        print(
            f"negative log-likelihood, {split}, M = {particles}{drawn}: {with_error(-values)} nats"
        )
    name = f"evaluation-{split}-{particles}{'' if guide is None else '-guide'}.json"
    beside = run / name if run.is_dir() else run.with_name(f"{run.stem}-{name}")
    text = json.dumps(result, indent=2, allow_nan=False) + "\n"
    try:
        write_text(out or beside, text)
    except WriteError as error:
        if out is not None:
            raise
        say(f"sfnn: not kept: {error}; or give --out")
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
    guide: Any = None,
    quiet: bool = False,
) -> Tensor:
    """Log-likelihood of every datapoint of a split, in nats; shows the progress."""
    _check(split, particles)
    part = getattr(data, split)
    if not len(part):
        raise ValueError(f"split={split!r}: the run set no data aside for it; choose another")
    torch.manual_seed(config.schedule.seed)
    done = 0
    with shown_progress("evaluate", quiet=quiet) as on_progress:

        def on_batch(count: int) -> None:
            nonlocal done
            done += count
            on_progress(done / len(part), "")

        return log_likelihood(
            config.program(model),
            part.x,
            part.y,
            guide=guide,
            num_particles=particles,
            on_batch=on_batch,
        )


def chosen_guide(saved: SavedRun, proposal: str, run: Path) -> Any:
    """The learned proposal of a run, or None for the prior.

    Raises:
        ValueError: there is no such proposal, or the run has learned none.
    """
    if proposal not in PROPOSALS:
        raise ValueError(f"proposal={proposal!r}: choose one of {', '.join(PROPOSALS)}")
    if proposal == "prior":
        return None
    if saved.config.proposal == "prior":
        raise RunError(
            f"{run} was trained with the prior as proposal and holds no guide: leave --proposal "
            "out, or train with --proposal recognition or mixture"
        )
    return saved.guide


def _check(split: str, particles: int) -> None:
    if split not in SPLITS:
        raise ValueError(f"split={split!r}: choose train, validation or test")
    check_whole("particles", particles, 1, MAX_PARTICLES)
