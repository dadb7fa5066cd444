"""A file of a person's own as training, validation and test data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sfnn_pyro.data.errors import DataError
from sfnn_pyro.data.images import binarise
from sfnn_pyro.data.own.choices import BINARISATIONS, OwnData
from sfnn_pyro.data.own.contents import Contents, read_contents, suffix_of
from sfnn_pyro.data.own.selection import Chosen, chosen
from sfnn_pyro.data.splits import LIKELIHOODS, Dataset, Split, assemble, partition, seeded
from sfnn_pyro.system.arguments import given_path
from sfnn_pyro.system.numbers import counted, shown

Array = NDArray[Any]
Shape = tuple[int, int] | None

MAX_CLASSES = 10_000
LABELS_OF_A_TABLE = 100
"""Whole numbers of a table below this are taken for classes if half of them are repeated."""


@dataclass(frozen=True, eq=False)
class Task:
    """Inputs and targets before they are binarised and split.

    Arguments:
        x, y: ``(N, dx)`` and ``(N, dy)``, float32; or y ``(N,)``, int64 classes.
        x_shape, y_shape: rows and columns, or None where they are no pictures.
        side_by_side: whether x stands to the left of y, not above it.
        cut: whether x and y are parts of one picture or row.
        fitting: the likelihood that fits y.
        classes: names of the classes, where they are texts.
    """

    x: Tensor
    y: Tensor
    x_shape: Shape
    y_shape: Shape
    side_by_side: bool
    cut: bool
    fitting: str
    classes: tuple[str, ...] = ()


def load_own(
    path: str | Path, own: OwnData | None = None, *, likelihood: str = "", binarisation: str = ""
) -> Dataset:
    """Loads a file or folder of a person's own.

    Arguments:
        path: a ``.npz``, ``.npy``, ``.csv``, ``.tsv`` or ``.safetensors`` file, compressed by gzip
            or not, or a folder of pictures.
        own: what is chosen about it.
        likelihood: of y; the one that fits unless given.
        binarisation: ``"once"``, the default for grey pictures; ``"epoch"`` for training data that
            are sampled anew in every epoch (``Dataset.fresh``); or ``"none"``.

    Raises:
        DataError: it cannot be read, or does not say what is asked of it; one line.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "pairs.npz"
        >>> np.savez(path, x=np.zeros((20, 3)), y=np.arange(20) % 2)
        >>> data = load_own(path)
        >>> len(data.train), data.x_size, data.y_size, data.likelihood
        (16, 3, 2, 'categorical')
    """
    check_choices(likelihood, binarisation)
    own, path = own or OwnData(), given_path("path", path, DataError)
    contents = read_own(path, own)
    task = make_task(contents, own, likelihood)
    return as_dataset(task, contents, own, likelihood, binarisation)


def read_own(path: Path, own: OwnData) -> Contents:
    """Reads a file, and refuses one that is not the one whose checksum is known."""
    contents = read_contents(path, second_file(own), own.shape)
    if own.sha256 and contents.sha256 != own.sha256:
        raise DataError(
            f"{path} is not the file of the training: its SHA-256 was {own.sha256[:12]}... and is "
            f"{contents.sha256[:12]}...; put the file back, or name its new place with --data, or "
            "train again with another --out"
        )
    return contents


def second_file(own: OwnData) -> Path | None:
    """The file that the target is in, if it is another one than the input's."""
    return Path(own.y) if own.y and suffix_of(Path(own.y)) == ".npy" else None


def make_task(contents: Contents, own: OwnData, likelihood: str = "") -> Task:
    """Input and target of every datapoint, checked for shape, type and finite values.

    Arguments:
        contents: what was read.
        own: what is chosen about it.
        likelihood: decides whether whole numbers are classes; by their look unless given.

    Raises:
        DataError: they cannot be, the message says which array, row and value.
    """
    first, second = chosen(contents, own)
    if second is None:
        return _cut(contents, first, own)
    x, x_shape = _values(contents, first, own, own.shape)
    if _is_labels(second, contents, likelihood):
        y, classes = _labels(contents, second)
        _check_pairs(contents, first, len(x), second, len(y))
        return Task(x, y, x_shape, None, False, False, "categorical", classes)
    y, y_shape = _values(contents, second, own, ())
    _check_pairs(contents, first, len(x), second, len(y))
    side = x_shape is not None and y_shape is not None and x_shape[1] != y_shape[1]
    return Task(x, y, x_shape, y_shape, side, False, _fitting(y, y_shape))


def as_dataset(
    task: Task, contents: Contents, own: OwnData, likelihood: str, binarisation: str
) -> Dataset:
    """The three splits of a task, under a likelihood."""
    path = contents.path
    likelihood = likelihood or task.fitting
    check_likelihood(task.y, likelihood, str(path))
    binary = is_binary(task.y)
    if likelihood != "bernoulli" and binarisation in ("once", "epoch"):
        raise DataError(
            f"binarise={binarisation!r}: under the likelihood {likelihood} nothing is binarised; "
            "leave --binarise out, or give --likelihood bernoulli"
        )
    if likelihood == "bernoulli" and binary and binarisation == "epoch":
        raise DataError(
            f"binarise='epoch': the targets of {path} are zeros and ones already, which sampling "
            "does not change; leave --binarise out"
        )
    if likelihood == "bernoulli" and not binary and binarisation == "none":
        raise DataError(
            f"binarise='none': the targets of {path} are not all 0 or 1, which the likelihood "
            "bernoulli needs; give --binarise once, or --likelihood gaussian"
        )
    sampled = likelihood == "bernoulli" and not binary
    sizes = _sizes(len(task.x), own, str(path))
    index = partition(len(task.x), sizes, seeded("split_seed", own.split_seed))
    parts = [Split(task.x[rows], task.y[rows]) for rows in index]
    fresh = None
    if sampled:
        generator = seeded("binarisation_seed", own.binarisation_seed)
        grey = parts[0]
        parts = [_sampled(part, task.cut, generator) for part in parts]
        fresh = _fresh(grey, task.cut)
    provenance: dict[str, str | int] = {
        "source": path.name,
        "source_sha256": contents.sha256,
        "split_seed": own.split_seed,
    }
    if sampled:
        provenance["binarisation_seed"] = own.binarisation_seed
    data = assemble(str(path), parts, likelihood, (task.x_shape, task.y_shape), provenance)
    return replace(data, side_by_side=task.side_by_side, fresh=fresh)


def check_choices(likelihood: str, binarisation: str) -> None:
    """Refuses names that there are not; an empty one is none.

    Raises:
        DataError: the message lists those that there are.
    """
    for key, value, known in (
        ("likelihood", likelihood, LIKELIHOODS),
        ("binarise", binarisation, BINARISATIONS),
    ):
        if value and value not in known:
            raise DataError(f"{key}={shown(value)}: choose one of {', '.join(known)}")


def check_likelihood(y: Tensor, likelihood: str, name: str) -> None:
    """Refuses a likelihood under which the targets cannot be.

    Raises:
        DataError: the message says what fits.
    """
    labels = y.dim() == 1
    if labels != (likelihood == "categorical"):
        what = "classes" if labels else "numbers, not classes"
        fit = "categorical" if labels else "bernoulli or gaussian"
        raise DataError(f"likelihood={likelihood!r}: the targets of {name} are {what}: give {fit}")
    if likelihood == "bernoulli" and not ((y >= 0) & (y <= 1)).all():
        low, high = y.min().item(), y.max().item()
        raise DataError(
            f"likelihood='bernoulli': the targets of {name} lie between {low:g} and {high:g}: give "
            f"--scale {high:g} if they are grey values from 0, or --likelihood gaussian"
        )


def is_binary(y: Tensor) -> bool:
    """Whether every value is 0 or 1."""
    return bool(((y == 0) | (y == 1)).all())


def _sampled(part: Split, both: bool, generator: torch.Generator) -> Split:
    """A split whose targets are sampled, and its inputs too if they are of the same pictures."""
    x = binarise(part.x, generator) if both else part.x
    return Split(x, binarise(part.y, generator))


def _fresh(grey: Split, both: bool) -> Callable[[torch.Generator], Split]:
    return lambda generator: _sampled(grey, both, generator)


def _sizes(count: int, own: OwnData, name: str) -> tuple[int, int, int]:
    """Sizes of the splits; a share that is not 0 has at least one datapoint."""
    shares = (own.validation, own.test)
    needed = 1 + sum(share > 0 for share in shares)
    if count < needed:
        raise DataError(
            f"{name} holds {counted(count, 'datapoint')}, and {needed} are needed, one for each of "
            "training, validation and test: add some, or give --validation 0 or --test 0"
        )
    validation, test = (max(1, round(share * count)) if share else 0 for share in shares)
    while validation + test >= count:
        validation, test = max(validation - 1, min(validation, 1)), max(test - 1, min(test, 1))
    return count - validation - test, validation, test


def _cut(contents: Contents, whole: Chosen, own: OwnData) -> Task:
    """Input and target that are parts of each datapoint."""
    values, shape = _values(contents, whole, own, own.shape)
    cut = own.input or ("upper-half" if shape else "")
    if not cut:
        raise DataError(
            f"{contents.path}: {whole.name} has {counted(values.shape[1], 'column')}: say which "
            "are the input and which the target with --x and --y, or give --input none to learn "
            "without an input, or --shape and --input if each row is a picture"
        )
    fitting = _fitting(values, shape)
    if cut == "none":
        empty: Shape = None if shape is None else (0, shape[1])
        return Task(values[:, :0], values, empty, shape, False, True, fitting)
    if shape is None:
        raise DataError(
            f"input={cut!r}: {contents.path} holds rows of {counted(values.shape[1], 'value')}, "
            "no pictures: give --shape, such as 8x8"
        )
    axis, beside = (1, False) if cut == "upper-half" else (2, True)
    side = shape[axis - 1]
    if side % 2:
        line = "row" if axis == 1 else "column"
        resized = ", or give an even --shape" if "pictures" in contents.kind else ""
        raise DataError(
            f"{contents.path}: its pictures have {counted(side, line)}, which cannot be cut into "
            f"--input {cut} and the rest: give another --input, or crop or pad them by one "
            f"{line}{resized}"
        )
    x, y = values.reshape(len(values), *shape).split(side // 2, dim=axis)
    half = (x.shape[1], x.shape[2])
    return Task(x.flatten(1), y.flatten(1), half, half, beside, True, fitting)


def _values(
    contents: Contents, part: Chosen, own: OwnData, shape: tuple[int, ...]
) -> tuple[Tensor, Shape]:
    """Rows of float32, scaled, and the shape of a picture if they are pictures."""
    name, values = f"{contents.path}: {part.name}", part.values
    if values.dtype.kind == "U":
        raise DataError(
            f"{name} holds texts, such as {shown(str(values[0]))}: only a target, named alone as "
            "--y, may be classes by name"
        )
    if values.ndim == 4 and 1 in (values.shape[1], values.shape[3]):  # one channel
        values = values.squeeze(1 if values.shape[1] == 1 else 3)
    if not values.shape or not len(values):
        what = "a single value" if not values.shape else "no datapoints"
        raise DataError(f"{name} holds {what}: give one row for each datapoint")
    if values.ndim > 3 or 0 in values.shape:
        raise DataError(
            f"{name} has the shape {values.shape}: give datapoints by columns, (N, d), or "
            "pictures, (N, rows, columns)"
        )
    rows = torch.from_numpy(_float32(values, name).reshape(len(values), -1))
    scale = own.scale or (255.0 if values.dtype == np.uint8 and values.max() > 1 else 1.0)
    _check_finite(rows, values, name)
    rows = rows / scale if scale != 1 else rows
    if not rows.isfinite().all():
        raise DataError(f"scale={scale:g}: values of {name} become infinite: give a larger --scale")
    if values.ndim == 3:
        size = (values.shape[1], values.shape[2])
        if shape and size != tuple(shape):
            raise DataError(
                f"{name} has pictures of {size[0]} x {size[1]}, not {shape[0]} x {shape[1]}: leave "
                "--shape out"
            )
        return rows, size
    if not shape:
        return rows, None
    if rows.shape[1] != shape[0] * shape[1]:
        raise DataError(
            f"{name} has rows of {counted(rows.shape[1], 'value')}, which are no picture of "
            f"{shape[0]} x {shape[1]}: give another --shape"
        )
    return rows, (shape[0], shape[1])


def _float32(values: Array, name: str) -> Array:
    with np.errstate(over="ignore", invalid="ignore"):
        return np.require(values, np.float32, ["C", "W"])  # PyTorch wants writable memory


def _check_finite(rows: Tensor, values: Array, name: str) -> None:
    bad = ~rows.isfinite().all(1)
    if not bad.any():
        return
    first = int(bad.nonzero()[0])
    found = values.reshape(len(values), -1)[first]
    worst = float(found[~rows[first].isfinite().numpy()][0])
    what = f"{worst:g}, more than float32 holds" if np.isfinite(worst) else f"{worst:g}"
    raise DataError(
        f"{name}: {int(bad.sum()):,} of {len(rows):,} datapoints hold NaN or infinity, the first "
        f"is number {first} (from 0) with {what}: leave them out, or fill them in"
    )


def _is_labels(part: Chosen, contents: Contents, likelihood: str) -> bool:
    """Whether a target is classes: texts, or one whole number for each datapoint."""
    values = part.values
    if values.dtype.kind == "U":
        return True
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1 or not part.counted or not len(values):
        return False
    if likelihood:
        return likelihood == "categorical"
    if not contents.is_table:
        return values.dtype.kind in "iu"
    few = len(np.unique(values)) <= max(2, len(values) // 2)
    return few and bool(values.min() >= 0 and values.max() < LABELS_OF_A_TABLE)


def _labels(contents: Contents, part: Chosen) -> tuple[Tensor, tuple[str, ...]]:
    name, values = f"{contents.path}: {part.name}", part.values.reshape(-1)
    if values.dtype.kind == "U":
        classes, numbers = np.unique(values, return_inverse=True)
        if len(classes) > MAX_CLASSES:
            raise DataError(
                f"{name} holds {len(classes):,} different texts, more than {MAX_CLASSES:,} "
                "classes: leave the column out"
            )
        _check_classes(len(classes), name)
        return torch.from_numpy(numbers.astype(np.int64)), tuple(map(str, classes))
    low, high = int(values.min()), int(values.max())
    if low < 0 or high >= MAX_CLASSES:
        raise DataError(
            f"{name} holds whole numbers from {low} to {high}: classes are numbered from 0 to at "
            f"most {MAX_CLASSES - 1}; give another array, or numbers with a decimal point for a "
            "measure"
        )
    _check_classes(1 + (low < high), name)
    return torch.from_numpy(values.astype(np.int64)), ()


def _check_classes(count: int, name: str) -> None:
    if count < 2:
        raise DataError(
            f"{name} has the same class for every datapoint: there is nothing to learn; give "
            "another target"
        )


def _check_pairs(
    contents: Contents, first: Chosen, rows: int, second: Chosen, targets: int
) -> None:
    if rows != targets:
        raise DataError(
            f"{contents.path}: {first.name} has {rows:,} datapoints and {second.name} "
            f"{targets:,}: give each input one target"
        )


def _fitting(y: Tensor, shape: Shape) -> str:
    """Bernoulli for zeros and ones and for grey pictures, else Gaussian."""
    grey = shape is not None and bool(((y >= 0) & (y <= 1)).all())
    return "bernoulli" if grey or is_binary(y) else "gaussian"
