"""``sfnn impute``."""

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
    with_error,
)
from sfnn_pyro.cli.drawings import (
    Datapoints,
    DrawSeed,
    Rows,
    SplitName,
    check_drawable,
    check_finite,
    check_memory_of_draws,
    check_output,
    choose_datapoints,
    save_arrays,
)
from sfnn_pyro.cli.evaluate import chosen_guide
from sfnn_pyro.data.own import read_mask
from sfnn_pyro.evaluation import Imputation
from sfnn_pyro.evaluation import impute as impute_rest
from sfnn_pyro.evaluation.completions import draw_completions
from sfnn_pyro.runs import MAX_PARTICLES, SavedRun, load_run
from sfnn_pyro.system.atomic_files import save_figure
from sfnn_pyro.system.memory import check_memory
from sfnn_pyro.system.numbers import check_whole
from sfnn_pyro.system.streams import say

POOR = 10.0
"""Effective sample size below which the samples of a datapoint repeat few hidden states."""

FLOATS = 2**26
"""Numbers that are held at once, unless a single datapoint needs more."""


def impute(
    run: RunFolder,
    known: Annotated[
        Path,
        path_option(
            "Mask of the target's known values: a picture, white where they are known; or a .npy "
            "file of 1 and 0. It has the size of the target, or of the whole picture."
        ),
    ],
    samples: Annotated[int, typer.Option(help="Number of completions of each datapoint.")] = 10,
    particles: Annotated[
        int, typer.Option(help="Number of particles M from which they are chosen, per datapoint.")
    ] = 1000,
    proposal: Annotated[
        str | None,
        typer.Option(
            help="Where particles are drawn from: prior, or guide for the proposal that the run "
            "has learned. If not given, the guide where there is one."
        ),
    ] = None,
    rows: Rows = None,
    split: SplitName = "test",
    seed: DrawSeed = 0,
    out: Annotated[
        Path | None,
        path_option(
            "File of the completions: a picture, or arrays if its name ends in .npz. If not "
            "given, RUN/imputations.png, or RUN/imputations.npz where the targets are no pictures."
        ),
    ] = None,
    moved: MovedData = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Complete partly known targets: of each datapoint, the values that a mask leaves unknown.

    The picture has a row for each datapoint: the original, what is known of it, completions, and
    the effective sample size (ESS) of its particles, at most M; where it is small, the completions
    repeat few hidden states. A .npz file holds the completions as y, an array of samples by rows by
    values; and index, the numbers of the datapoints from 0, x, known, log_likelihood_known in nats
    and effective_sample_size.
    """
    check_whole("particles", particles, 1, MAX_PARTICLES)
    saved = load_run(run, moved)
    if proposal is None:
        proposal = "prior" if saved.config.proposal == "prior" else "guide"
    guide = chosen_guide(saved, proposal, run)
    path = check_output(run, out, "imputations", saved.data)
    mask = read_mask(known, saved.data)
    chosen = choose_datapoints(saved.data, split, rows, seed, run)
    count = len(chosen.index)
    check_drawable(path, rows=count, samples=samples)
    torch.manual_seed(seed)
    result = _imputed(saved, chosen, mask, guide, samples, particles, quiet)
    check_finite(result.samples, run)
    sizes, nats = result.effective_sample_size, result.log_likelihood_known
    if as_json:
        print_json(
            {
                "file": str(path),
                "split": split,
                "index": chosen.index.tolist(),
                "samples": samples,
                "particles": particles,
                "proposal": proposal,
                "seed": seed,
                "known": int(mask.sum()),
                "unknown": int((~mask).sum()),
                "log_likelihood_known": nats.tolist(),
                "effective_sample_size": sizes.tolist(),
            }
        )
    else:
        print(
            f"log-likelihood of {int(mask.sum())} of {mask.numel()} values, M = {particles}, from "
            f"the {proposal}: {with_error(nats)} nats"
        )
        print(
            f"effective sample size of {particles} particles: median {sizes.median():.1f}, least "
            f"{sizes.min():.1f}"
        )
    _save(path, result, chosen, mask)
    if not as_json:
        print(f"Wrote {path}")
    if low := int((sizes < POOR).sum()):
        say(
            f"sfnn: {low} of {count} datapoints have an effective sample size below {POOR:g}, and "
            "their completions repeat few hidden states: give more --particles"
        )


def _imputed(
    saved: SavedRun,
    chosen: Datapoints,
    mask: Tensor,
    guide: Any,
    samples: int,
    particles: int,
    quiet: bool,
) -> Imputation:
    count = len(chosen.index)
    widths = sum(saved.config.hidden) + saved.data.x_size + saved.data.y_size
    check_memory_of_draws(widths, count, samples)
    check_memory(4 * particles * widths, f"particles={particles}", "give fewer --particles")
    done = 0
    with shown_progress("impute", quiet=quiet) as on_progress:

        def on_batch(finished: int) -> None:
            nonlocal done
            done += finished
            on_progress(done / count, "")

        return impute_rest(
            saved.program,
            chosen.x,
            chosen.y,
            mask,
            guide=guide,
            num_samples=samples,
            num_particles=particles,
            batch_size=max(1, min(20, FLOATS // (particles * widths))),
            poor=0.0,
            on_batch=on_batch,
        )


def _save(path: Path, result: Imputation, chosen: Datapoints, mask: Tensor) -> None:
    if path.suffix == ".npz":
        save_arrays(
            path,
            y=result.samples,
            x=chosen.x,
            index=chosen.index,
            known=mask,
            log_likelihood_known=result.log_likelihood_known,
            effective_sample_size=result.effective_sample_size,
        )
        return
    x, x_shape = chosen.drawn_input
    figure = draw_completions(
        x,
        chosen.y,
        result.samples,
        x_shape=x_shape,
        y_shape=chosen.y_shape,
        side_by_side=chosen.data.side_by_side,
        known=mask,
        notes=[f"ESS {size:.0f}" for size in result.effective_sample_size.tolist()],
    )
    save_figure(figure, path)
