"""``sfnn complete``."""

from pathlib import Path
from typing import Annotated

import torch
import typer

from sfnn_pyro.cli.display import RunFolder
from sfnn_pyro.completions import draw_completions, sample_completions
from sfnn_pyro.runs import load_model
from sfnn_pyro.system.atomic_files import save_figure


def complete(
    run: RunFolder,
    out: Annotated[
        Path | None,
        typer.Option(help="File of the picture. If not given, RUN/completions.png."),
    ] = None,
    rows: Annotated[int, typer.Option(help="Number of test images.")] = 12,
    samples: Annotated[int, typer.Option(help="Number of completions of each image.")] = 10,
    seed: Annotated[int, typer.Option(help="Seed of the choice of images and of the samples.")] = 0,
) -> None:
    """Draw test images, the part that the network was given, and its completions."""
    folder = run if run.is_dir() else run.parent
    picture = out or folder / "completions.png"
    draw_test_completions(run, picture, rows, samples, seed)
    print(f"Wrote {picture}")


def draw_test_completions(run: Path, picture: Path, rows: int, samples: int, seed: int) -> None:
    """Draws completions of randomly chosen test images by the network of a run."""
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
    figure = draw_completions(x, y, completions, x_shape=data.x_shape, y_shape=data.y_shape)
    save_figure(figure, picture)
