"""Masks that a person draws: which values of a target are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sfnn_pyro.data.errors import DataError
from sfnn_pyro.data.own.arrays import read_npy
from sfnn_pyro.data.own.contents import bytes_of, size_limit, suffix_of
from sfnn_pyro.data.own.pictures import SUFFIXES, read_picture
from sfnn_pyro.data.reading import decompressed
from sfnn_pyro.data.splits import Dataset
from sfnn_pyro.system.numbers import shown


def read_mask(path: Path, data: Dataset) -> Tensor:
    """Which values of the target are known, of a ``.npy`` file or a picture.

    The file has the shape of the target, or that of the whole picture whose part the target is. In
    an array, 1 and true are known; in a picture, white.

    Arguments:
        path: the file.
        data: whose target it is of.

    Returns:
        ``(dy,)``, booleans.

    Raises:
        DataError: the file cannot be read, has another shape or other values, or marks the input
            as unknown, or nothing or all of the target.
    """
    if data.likelihood == "categorical":
        raise DataError(
            f"{path}: the target of {data.name} is a class, of which no part can be known: train "
            "on a target of several values"
        )
    marks = _read(path)
    known = _of_target(marks, data, path)
    count = int(known.sum())
    if not count:
        raise DataError(f"{path} marks nothing as known: give another mask, or use 'sfnn sample'")
    if count == known.numel():
        raise DataError(f"{path} marks all of the target as known: there is nothing to impute")
    return known


def _read(path: Path) -> NDArray[Any]:
    suffix = suffix_of(path)
    if suffix == ".npy":
        raw = decompressed(bytes_of(path), limit=size_limit(), name=str(path))
        values = read_npy(raw, str(path))["array"]
        wrong = values[(values != 0) & (values != 1)]
        if wrong.size:
            raise DataError(
                f"{path} holds {shown(wrong.reshape(-1)[0].item())}: a mask has 1 or true for what "
                "is known and 0 or false for the rest"
            )
        return values != 0
    if suffix in SUFFIXES:
        grey = read_picture(bytes_of(path), str(path))
        return grey >= (128 if grey.dtype == np.uint8 else 0.5)
    if not path.exists():
        raise DataError(f"{path} does not exist: check the path")
    raise DataError(f"{path} is no mask: give a .npy file, or a picture such as .png")


def _of_target(marks: NDArray[Any], data: Dataset, path: Path) -> Tensor:
    found = torch.from_numpy(np.ascontiguousarray(marks))
    shapes: list[tuple[int, ...]] = [(data.y_size,)]
    if data.y_shape is not None:
        shapes.append(data.y_shape)
    if marks.shape in shapes:
        return found.reshape(-1)
    if data.x_shape is not None and data.y_shape is not None:
        axis = 1 if data.side_by_side else 0
        whole = list(data.y_shape)
        whole[axis] += data.x_shape[axis]
        if marks.shape == tuple(whole) and data.x_shape[1 - axis] == data.y_shape[1 - axis]:
            sides = [data.x_shape[axis], data.y_shape[axis]]
            given, target = found.split(sides, axis)
            if not given.all():
                raise DataError(
                    f"{path} marks {int((~given).sum())} of {given.numel()} values of the input as "
                    "unknown, and the input is always given: mark it as known, or train with "
                    "--input none"
                )
            return target.reshape(-1)
        shapes.append((whole[0], whole[1]))
    names = [_name(shape) for shape in dict.fromkeys(shapes)]
    wanted = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
    raise DataError(
        f"{path} has {_name(marks.shape)} values and the target of {data.name} {wanted}: give a "
        "mask of that size"
    )


def _name(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "no"
