"""``sfnn sample``."""

from pathlib import Path
from typing import Annotated

import torch
import typer

from sfnn_pyro.cli.display import Json, MovedData, RunFolder, path_option, print_json
from sfnn_pyro.cli.drawings import (
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
from sfnn_pyro.evaluation.completions import draw_samples, sample_completions
from sfnn_pyro.runs import load_run
from sfnn_pyro.system.atomic_files import save_figure


def sample(
    run: RunFolder,
    samples: Annotated[
        int, typer.Option(help="Number of outputs that are drawn for each datapoint's input.")
    ] = 16,
    rows: Rows = None,
    split: SplitName = "test",
    seed: DrawSeed = 0,
    out: Annotated[
        Path | None,
        path_option(
            "File of the draws: a picture, or arrays if its name ends in .npz. If not given, "
            "RUN/samples.png, or RUN/samples.npz where the targets are no pictures."
        ),
    ] = None,
    moved: MovedData = None,
    as_json: Json = False,
) -> None:
    """Draw outputs of a trained network, for inputs of the data or of a network without inputs.

    A .npz file holds the outputs as y, an array of samples by rows by values; the inputs as x; and
    as index their numbers in the part of the data, from 0.
    """
    saved = load_run(run, moved)
    data = saved.data
    path = check_output(run, out, "samples", data)
    if not data.x_size:
        if rows is not None:
            raise ValueError(
                f"rows={rows}: the network of {run} has no inputs to choose; leave --rows out"
            )
        rows = 1
    chosen = choose_datapoints(data, split, rows, seed, run)
    count = len(chosen.index)
    check_drawable(path, rows=count, samples=samples)
    check_memory_of_draws(sum(saved.config.hidden) + data.x_size + data.y_size, count, samples)
    torch.manual_seed(seed)
    drawn = sample_completions(saved.program, chosen.x, samples)
    check_finite(drawn, run)
    if path.suffix == ".npz":
        save_arrays(path, y=drawn, x=chosen.x, index=chosen.index)
    else:
        x, x_shape = chosen.drawn_input
        save_figure(
            draw_samples(
                x, drawn, x_shape=x_shape, y_shape=chosen.y_shape, side_by_side=data.side_by_side
            ),
            path,
        )
    if as_json:
        print_json({"file": str(path), "rows": count, "samples": samples, "seed": seed})
    else:
        print(f"Wrote {path}")
