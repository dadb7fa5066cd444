"""What a file of a person's own holds, and how it would be learnt from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfnn_pyro.data.errors import DataError
from sfnn_pyro.data.own.choices import OwnData
from sfnn_pyro.data.own.contents import Contents
from sfnn_pyro.data.own.task import (
    Task,
    as_dataset,
    check_choices,
    is_binary,
    make_task,
    read_own,
)
from sfnn_pyro.data.splits import Dataset
from sfnn_pyro.system.numbers import counted

FEW = 20
"""Arrays or columns that are listed one by one."""


@dataclass(frozen=True)
class Description:
    """What a file holds, and the task that it makes.

    Arguments:
        contents: what was read.
        arrays: for each array or column, its type, shape, smallest and largest value, and how many
            values are NaN or infinite.
        task: x, y, the likelihood that fits and the sizes of the splits; None if it makes none.
        problem: why it makes none.
    """

    contents: Contents
    arrays: dict[str, dict[str, Any]]
    task: dict[str, Any] | None = None
    problem: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Everything, as JSON has it."""
        return {
            "path": str(self.contents.path),
            "kind": self.contents.kind,
            "bytes": self.contents.size,
            "sha256": self.contents.sha256,
            "left_out": self.contents.left_out,
            "arrays": self.arrays,
            "task": self.task,
            "problem": self.problem or None,
        }

    def lines(self) -> list[str]:
        """Everything, for a person to read."""
        contents = self.contents
        lines = [
            f"{contents.path}: {contents.kind}, {contents.size:,} bytes, SHA-256 "
            f"{contents.sha256[:12]}..."
        ]
        for name, array in list(self.arrays.items())[:FEW]:
            lines.append(f"  {name}: {_array_line(array)}")
        if len(self.arrays) > FEW:
            lines.append(f"  and {len(self.arrays) - FEW:,} more")
        if contents.left_out:
            few = ", ".join(contents.left_out[:3])
            lines.append(
                f"  left out, no pictures: {counted(len(contents.left_out), 'file')}, {few}"
            )
        if self.task is None:
            return [*lines, f"It cannot be trained on yet: {self.problem}"]
        task = self.task
        lines.append(
            f"Input x: {task['x']}. Target y: {task['y']}. Likelihood: {task['likelihood']}, "
            f"because {task['because']}."
        )
        lines.append(
            f"Splits by seed {task['split_seed']}: {task['train']:,} for training, "
            f"{task['validation']:,} for validation, {task['test']:,} for the test."
        )
        return lines


def describe(
    path: Path, own: OwnData | None = None, *, likelihood: str = "", binarisation: str = ""
) -> Description:
    """Says what a file holds and which task it makes.

    Arguments:
        path: of the file or folder.
        own: what is chosen about it.
        likelihood: of the target; the one that fits unless given.
        binarisation: see ``load_own``.

    Raises:
        DataError: the file cannot be read, or a name is none of those that there are. A file that
            makes no task is described all the same.
    """
    check_choices(likelihood, binarisation)
    own = own or OwnData()
    contents = read_own(path, own)
    arrays = {name: _facts(values) for name, values in contents.arrays.items()}
    try:
        task = make_task(contents, own, likelihood)
        data = as_dataset(task, contents, own, likelihood, binarisation)
    except DataError as error:
        return Description(contents, arrays, problem=str(error))
    return Description(contents, arrays, _task(task, data, own, likelihood, binarisation))


def _facts(values: NDArray[Any]) -> dict[str, Any]:
    kind = "text" if values.dtype.kind == "U" else str(values.dtype)
    facts: dict[str, Any] = {"type": kind, "shape": list(values.shape)}
    if not values.size:
        return facts
    if values.dtype.kind == "U":
        return {**facts, "different": len(np.unique(values))}
    finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    if finite.size:
        facts |= {"smallest": finite.min().item(), "largest": finite.max().item()}
    return {**facts, "not_finite": int(values.size - finite.size)}


def _array_line(array: dict[str, Any]) -> str:
    shape = " x ".join(f"{side:,}" for side in array["shape"])
    line = f"{array['type']}, {shape or 'a single value'}"
    if "different" in array:
        return f"{line}, {array['different']:,} different"
    if "smallest" in array:
        line += f", values from {array['smallest']:g} to {array['largest']:g}"
    if array.get("not_finite"):
        line += f", {array['not_finite']:,} NaN or infinite"
    return line


def _task(
    task: Task, data: Dataset, own: OwnData, likelihood: str, binarisation: str
) -> dict[str, Any]:
    y = "one of " + f"{data.y_size:,} classes" if data.likelihood == "categorical" else None
    return {
        "x": _part(data.x_size, task.x_shape),
        "y": y or _part(data.y_size, task.y_shape),
        "x_size": data.x_size,
        "y_size": data.y_size,
        "likelihood": data.likelihood,
        "because": "it was asked for" if likelihood else _because(task, data, binarisation),
        "train": len(data.train),
        "validation": len(data.validation),
        "test": len(data.test),
        "split_seed": own.split_seed,
    }


def _part(size: int, shape: tuple[int, int] | None) -> str:
    if not size:
        return "nothing"
    if shape is None:
        return "1 number" if size == 1 else f"{size:,} numbers"
    return f"{size:,} pixels ({shape[0]:,} x {shape[1]:,})"


def _because(task: Task, data: Dataset, binarisation: str) -> str:
    if data.likelihood == "categorical":
        if task.classes:
            return "the targets are texts"
        return "the targets are whole numbers, one each"
    if data.likelihood == "gaussian":
        low, high = task.y.min().item(), task.y.max().item()
        if task.y_shape is not None and low >= 0 and high > 1:
            return (
                f"the targets are pictures with values up to {high:g} (if these are grey values, "
                f"give --scale {255 if high <= 255 else high:g})"
            )
        return "the targets are numbers of any size"
    if is_binary(task.y):
        return "the targets are zeros and ones"
    how = "anew in each epoch" if binarisation == "epoch" else "once"
    return f"the targets are grey pictures, whose pixels are sampled {how} as 0 or 1"
