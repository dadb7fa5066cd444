"""``sfnn complete``."""

from pathlib import Path
from typing import Annotated

import torch
import typer

from sfnn_pyro.cli.display import Json, RunFolder, path_option, print_json
from sfnn_pyro.evaluation.completions import draw_completions, sample_completions
from sfnn_pyro.runs import RunConfig, load_model
from sfnn_pyro.system.atomic_files import check_target, save_figure
from sfnn_pyro.system.memory import check_memory
from sfnn_pyro.system.numbers import check_whole
from sfnn_pyro.training.schedule import MAX_SEED

MAX_DRAWN = 900
"""Images side by side, or under each other, that Matplotlib draws in one picture."""


def complete(
    run: RunFolder,
    out: Annotated[
        Path | None,
        path_option("File of the picture. If not given, RUN/completions.png."),
    ] = None,
    rows: Annotated[int, typer.Option(help="Number of test images.")] = 12,
    samples: Annotated[int, typer.Option(help="Number of completions of each image.")] = 10,
    seed: Annotated[int, typer.Option(help="Seed of the choice of images and of the samples.")] = 0,
    as_json: Json = False,
) -> None:
    """Draw test images, the part that the network was given, and its completions."""
    folder = run if run.is_dir() else run.parent
    picture = out or folder / "completions.png"
    draw_test_completions(run, picture, rows, samples, seed)
    if as_json:
        print_json({"picture": str(picture), "rows": rows, "samples": samples, "seed": seed})
    else:
        print(f"Wrote {picture}")


def draw_test_completions(run: Path, picture: Path, rows: int, samples: int, seed: int) -> None:
    """Draws completions of randomly chosen test images by the network of a run."""
    check_whole("seed", seed, 0, MAX_SEED - 1)
    check_whole("samples", samples, 1, MAX_DRAWN)
    model, config, data = load_model(run)
    if data.x_shape is None or data.y_shape is None:
        raise ValueError(f"{run}: the data set {data.name} has no images to complete")
    check_whole("rows", rows, 1, min(len(data.test), MAX_DRAWN))
    check_target(picture)
    _check_memory(config, data.x_size + data.y_size, rows, samples)
    generator = torch.Generator().manual_seed(seed)
    index = torch.randperm(len(data.test), generator=generator)[:rows]
    x, y = data.test.x[index], data.test.y[index]
    torch.manual_seed(seed)
    completions = sample_completions(config.program(model), x, samples)
    figure = draw_completions(x, y, completions, x_shape=data.x_shape, y_shape=data.y_shape)
    save_figure(figure, picture)


def _check_memory(config: RunConfig, pixels: int, rows: int, samples: int) -> None:
    floats = rows * samples * (sum(config.hidden) + pixels)
    check_memory(4 * floats, f"rows={rows}, samples={samples}", "give fewer --rows or --samples")
