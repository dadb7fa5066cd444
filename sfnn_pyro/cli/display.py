"""What several commands show or ask for: progress, results, values with their error, arguments."""

import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from sfnn_pyro.runs import standard_error
from sfnn_pyro.system.streams import say

# Names of files may hold brackets, which rich would read as its markup.
console = Console(markup=False, highlight=False, emoji=False)

LOG_SECONDS = 5.0
"""Time between two lines of progress where standard error is no terminal."""

OnProgress = Callable[[float, str], None]
"""Takes the part that is done, 0 to 1, and a note."""


def path_of(text: str | Path) -> Path:
    """The path that an argument names, or its default; an empty one would be the current folder.

    Raises:
        typer.BadParameter: it is empty.
    """
    if isinstance(text, Path):  # a default
        return text
    if not text.strip():
        raise typer.BadParameter(
            f"{text!r} is an empty path, perhaps of a variable that is not set: name a file or "
            "folder; the current folder is '.'"
        )
    return Path(text)


RunFolder = Annotated[
    Path,
    typer.Argument(
        parser=path_of,
        metavar="RUN",
        help="Folder that 'sfnn train' wrote, or a model file such as its best.safetensors.",
    ),
]

MovedData = Annotated[
    Path | None,
    typer.Option(
        "--data",
        parser=path_of,
        metavar="PATH",
        help="Place of the run's own file or folder of data, if it was moved since the training. "
        "Its checksum must be the recorded one.",
    ),
]

Quiet = Annotated[bool, typer.Option("--quiet", help="Show no progress on standard error.")]

Json = Annotated[
    bool, typer.Option("--json", help="Print the results as one JSON object on standard output.")
]


def path_option(text: str) -> Any:
    """An option that takes a path, which must not be empty."""
    return typer.Option(parser=path_of, metavar="PATH", help=text)


@contextmanager
def shown_progress(name: str, *, quiet: bool = False) -> Iterator[OnProgress]:
    """Shows the progress of a task on standard error.

    A terminal gets a bar; a file or a pipe gets a line at once and then one every few seconds.

    Arguments:
        name: of the task.
        quiet: whether to show nothing.
    """
    if quiet or sys.stderr is None:
        yield lambda done, note: None
    elif sys.stderr.isatty():
        bar = _progress_bar()
        with bar:
            task = bar.add_task(name, total=1.0, note="")
            yield lambda done, note: bar.update(task, completed=done, note=note)
            bar.update(task, completed=1.0)
    else:
        log = _Log(name)
        yield log
        log.end()


class _Log:
    """Progress as lines of a file."""

    def __init__(self, name: str) -> None:
        self.name, self.began = name, time.monotonic()
        self.first: float | None = None
        self.last, self.written = (0.0, ""), -math.inf

    def __call__(self, done: float, note: str) -> None:
        now = time.monotonic()
        self.last = done, note
        if self.first is None:
            self.first = done  # what an earlier process did, or the first step
        if now - self.written >= LOG_SECONDS:
            self._write(self._left(done, now))

    def end(self) -> None:
        if self.first is not None:
            self.last = 1.0, self.last[1]
            self._write(f", took {_duration(time.monotonic() - self.began)}")

    def _left(self, done: float, now: float) -> str:
        made = done - (self.first or 0.0)
        if made <= 0 or now - self.began < 1:
            return ""
        return f", {_duration((now - self.began) * (1 - done) / made)} left"

    def _write(self, time_note: str) -> None:
        done, note = self.last
        self.written = time.monotonic()
        text = f"{self.name}: {100 * done:3.0f} %{', ' if note else ''}{note}{time_note}"
        say(text)


def _progress_bar() -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.percentage:3.0f}%"),
        TimeRemainingColumn(elapsed_when_finished=True),
        TextColumn("{task.fields[note]}", markup=False),
        console=Console(stderr=True, markup=False, highlight=False),
    )


def _duration(seconds: float) -> str:
    """Seconds as text.

    Example:
        >>> _duration(5), _duration(65), _duration(7300)
        ('5 s', '1 min 05 s', '2 h 01 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def print_json(result: Any) -> None:
    """Prints a result as strict JSON, in which a number that is not finite is null."""
    print(json.dumps(strict(result), indent=2, allow_nan=False))


def strict(value: Any) -> Any:
    """A value in which numbers that JSON has not are None.

    Example:
        >>> strict({"a": [1.0, float("nan")]})
        {'a': [1.0, None]}
    """
    if isinstance(value, dict):
        return {key: strict(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [strict(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def with_error(values: Tensor) -> str:
    """The mean of some values and its standard error, as text; of one value, itself alone.

    Example:
        >>> import torch
        >>> with_error(torch.tensor([1.0])), with_error(torch.tensor([1.0, 2.0]))
        ('1.00', '1.50 ± 0.50')
    """
    mean = f"{values.mean().item():.2f}"
    return mean if len(values) < 2 else f"{mean} ± {standard_error(values):.2f}"
