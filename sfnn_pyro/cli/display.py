"""What several commands show or ask for: progress bars, values with their error, arguments."""

import math
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

console = Console()

RunFolder = Annotated[
    Path,
    typer.Argument(help="Folder that 'sfnn train' wrote, or a model file such as its best.pt."),
]


def progress_bar(note: str, *, disable: bool = False) -> Progress:
    """A progress bar with the remaining time and a column of notes."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:3.0f}%"),
        TimeRemainingColumn(elapsed_when_finished=True),
        TextColumn(note),
        console=console,
        disable=disable,
    )


def standard_error(values: Tensor) -> float:
    """Standard error of the mean; NaN for a single value."""
    return (values.std() / math.sqrt(len(values))).item() if len(values) > 1 else math.nan


def with_error(values: Tensor) -> str:
    """The mean of some values and its standard error, as text."""
    return f"{values.mean().item():.2f} ± {standard_error(values):.2f}"
