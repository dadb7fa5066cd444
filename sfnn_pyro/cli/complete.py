"""``sfnn complete``."""

from pathlib import Path
from typing import Annotated

import torch
import typer

from sfnn_pyro.cli.display import Json, MovedData, RunFolder, path_option, print_json
from sfnn_pyro.cli.drawings import (
    DrawSeed,
    Rows,
    check_drawable,
    check_finite,
    check_memory_of_draws,
    choose_datapoints,
)
from sfnn_pyro.evaluation.completions import draw_completions, sample_completions
from sfnn_pyro.runs import load_run
from sfnn_pyro.system.atomic_files import check_target, save_figure


def complete(
    run: RunFolder,
    out: Annotated[
        Path | None,
        path_option("File of the picture. If not given, RUN/completions.png."),
    ] = None,
    rows: Rows = None,
    samples: Annotated[int, typer.Option(help="Number of completions of each image.")] = 10,
    seed: DrawSeed = 0,
    moved: MovedData = None,
    as_json: Json = False,
) -> None:
    """Draw test images, the part that the network was given, and its completions."""
    folder = run if run.is_dir() else run.parent
    picture = out or folder / "completions.png"
    count = draw_test_completions(run, picture, rows, samples, seed, moved)
    if as_json:
        print_json({"picture": str(picture), "rows": count, "samples": samples, "seed": seed})
    else:
        print(f"Wrote {picture}")


def draw_test_completions(
    run: Path,
    picture: Path,
    rows: int | None,
    samples: int,
    seed: int,
    moved: Path | None = None,
) -> int:
    """Draws completions of randomly chosen test images by the network of a run; how many."""
    saved = load_run(run, moved)
    data = saved.data
    if data.x_shape is None or data.y_shape is None:
        raise ValueError(f"{run}: the data set {data.name} has no images to complete")
    chosen = choose_datapoints(data, "test", rows, seed, run)
    count = len(chosen.index)
    check_drawable(picture, rows=count, samples=samples)
    check_target(picture)
    check_memory_of_draws(sum(saved.config.hidden) + data.x_size + data.y_size, count, samples)
    torch.manual_seed(seed)
    completions = sample_completions(saved.program, chosen.x, samples)
    check_finite(completions, run)
    x, x_shape = chosen.drawn_input
    figure = draw_completions(
        x,
        chosen.y,
        completions,
        x_shape=x_shape,
        y_shape=data.y_shape,
        side_by_side=data.side_by_side,
    )
    save_figure(figure, picture)
    return count
