"""What the commands that draw from a network share: datapoints, files of draws."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from torch import Tensor

from sfnn_pyro.data import Dataset, Split
from sfnn_pyro.runs import RunError
from sfnn_pyro.system.atomic_files import check_target, replacing
from sfnn_pyro.system.figures import new_figure
from sfnn_pyro.system.memory import check_memory
from sfnn_pyro.system.numbers import check_whole
from sfnn_pyro.training.schedule import MAX_SEED

SPLITS = ("train", "validation", "test")
ROWS = 12
"""Datapoints of a picture whose number was not given."""

MAX_DRAWN = 900
"""Images side by side, or under each other, that Matplotlib draws in one picture."""

Rows = Annotated[
    int | None,
    typer.Option(
        help=f"Number of datapoints, chosen at random. If not given, {ROWS}, or all if there are "
        "fewer."
    ),
]
SplitName = Annotated[
    str, typer.Option("--split", help="Part of the data that is used: test, validation or train.")
]
DrawSeed = Annotated[
    int, typer.Option(help="Seed of the choice of the datapoints and of the samples.")
]


@dataclass(frozen=True)
class Datapoints:
    """Some datapoints of a run's data, and how they are drawn.

    Arguments:
        index: ``(B,)``, their numbers in the split, from 0.
        x: ``(B, dx)``.
        y: ``(B, dy)``, or ``(B,)`` of classes.
        data: the whole.
    """

    index: Tensor
    x: Tensor
    y: Tensor
    data: Dataset

    @property
    def y_shape(self) -> tuple[int, int]:
        """Rows and columns of a target that is a picture."""
        assert self.data.y_shape is not None
        return self.data.y_shape

    @property
    def drawn_input(self) -> tuple[Tensor, tuple[int, int]]:
        """The input and its shape in a picture; nothing where it is none, or of another width."""
        x_shape, axis = self.data.x_shape, 1 if self.data.side_by_side else 0
        if x_shape is not None and x_shape[1 - axis] == self.y_shape[1 - axis]:
            return self.x, x_shape
        empty = (self.y_shape[0], 0) if axis else (0, self.y_shape[1])
        return self.x[:, :0], empty


def choose_datapoints(
    data: Dataset, split: str, rows: int | None, seed: int, run: Path
) -> Datapoints:
    """Datapoints of a split, chosen at random by a seed.

    Raises:
        ValueError: the split is none or empty, has not so many, or the seed is out of range.
    """
    check_whole("seed", seed, 0, MAX_SEED - 1)
    if split not in SPLITS:
        raise ValueError(f"split={split!r}: choose train, validation or test")
    part: Split = getattr(data, split)
    if not len(part):
        raise RunError(f"{run}: split={split!r}: the run set no data aside for it; choose another")
    count = min(ROWS, len(part)) if rows is None else rows
    check_whole("rows", count, 1, len(part))
    index = torch.randperm(len(part), generator=torch.Generator().manual_seed(seed))[:count]
    return Datapoints(index, part.x[index], part.y[index], data)


def check_output(run: Path, out: Path | None, name: str, data: Dataset) -> Path:
    """The file of some draws: as given, or of this name in the run folder; it can be written.

    Raises:
        ValueError: a picture is wanted of what is none.
        WriteError: something else than a file has the name.
    """
    folder = run if run.is_dir() else run.parent
    kind = ".npz" if data.y_shape is None else ".png"
    path = out or folder / f"{name}{kind}"
    check_target(path)
    if data.y_shape is None and path.suffix != ".npz":
        raise ValueError(
            f"{path}: the targets of {data.name} are no pictures: give --out a name that ends in "
            ".npz, for arrays"
        )
    kinds = [*new_figure().canvas.get_supported_filetypes(), "npz"]
    if path.suffix and path.suffix[1:] not in kinds:
        raise ValueError(f"{path}: a file of draws can be {', '.join(kinds)}, not {path.suffix}")
    return path


def check_drawable(path: Path, **counts: int) -> None:
    """Refuses counts below 1, and of a picture those that make it too large."""
    limit = 2**31 if path.suffix == ".npz" else MAX_DRAWN
    for name, count in counts.items():
        check_whole(name, count, 1, limit)


def check_memory_of_draws(widths: int, rows: int, samples: int) -> None:
    """Refuses draws of so many units that do not fit the memory."""
    needed = 4 * rows * samples * widths
    check_memory(needed, f"rows={rows}, samples={samples}", "give fewer --rows or --samples")


def check_finite(draws: Tensor, run: Path) -> None:
    """Refuses what a network with NaN among its weights draws."""
    if not draws.isfinite().all():
        raise RunError(
            f"{run}: the network draws NaN or infinity: train again with a smaller --learning-rate"
        )


def save_arrays(path: Path, **arrays: Tensor) -> None:
    """Writes arrays by name to a NumPy archive, whole or not at all."""
    found: dict[str, Any] = {name: value.detach().numpy() for name, value in arrays.items()}
    with replacing(path) as file:
        np.savez(file, **found)
