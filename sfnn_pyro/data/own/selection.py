"""Which arrays or columns of a file are the input, and which the target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfnn_pyro.data.errors import DataError
from sfnn_pyro.data.own.choices import OwnData
from sfnn_pyro.data.own.contents import Contents
from sfnn_pyro.system.numbers import shown

Array = NDArray[Any]

WHOLE = "array"


@dataclass(frozen=True, eq=False)
class Chosen:
    """An array, or columns of one, and what it is called.

    Arguments:
        name: for messages.
        values: ``(N, ...)``.
        counted: whether all of them are whole numbers, or texts, as classes are.
    """

    name: str
    values: Array
    counted: bool = True


def chosen(contents: Contents, own: OwnData) -> tuple[Chosen, Chosen | None]:
    """The input and the target; or the datapoints, and None where they are to be cut.

    Raises:
        DataError: a name or number is none of the file's, or the file holds several arrays and
            nothing says which.
    """
    x, y = own.x, own.y
    if not x and not y and not own.input and {"x", "y"} <= set(contents.arrays):
        x, y = "x", "y"
    if y or (x and contents.is_table and not own.input):
        return _pair(contents, x, y)
    return (_one(contents, x) if x else _only(contents)), None


def _pair(contents: Contents, x: str, y: str) -> tuple[Chosen, Chosen]:
    """Both; of a table, or of two arrays, the one that is not named is all the rest."""
    if x and y:
        _check_disjoint(contents, x, y)
        return _one(contents, x), _one(contents, y)
    given = x or y
    named, places = _places(contents, given)
    if contents.is_table or _is_matrix(contents, named):
        count = len(contents.arrays) if contents.is_table else contents.arrays[named].shape[1]
        rest = [place for place in range(count) if place not in places]
        if not rest:
            raise DataError(
                f"{contents.path}: {given!r} is every column: leave some for "
                f"{'the target' if x else 'the input'}, or give --input none instead of --y"
            )
        other = _columns(contents, named, rest, f"the columns beside {given}")
    else:
        names = [name for name in contents.arrays if name != named]
        if len(names) != 1:
            raise _ambiguous(contents)
        other = _array(contents, names[0])
    this = _one(contents, given)
    return (this, other) if x else (other, this)


def _check_disjoint(contents: Contents, x: str, y: str) -> None:
    """Refuses a target that the input holds already."""
    (named, places), (other, targets) = (_places(contents, text) for text in (x, y))
    if named == other and (not places or not targets or set(places) & set(targets)):
        raise DataError(
            f"{contents.path}: x={x!r} and y={y!r} share values, so that the target is known "
            "before it is predicted: name others"
        )


def _only(contents: Contents) -> Chosen:
    """The one array of a file, or its whole table."""
    if contents.is_table:
        return _columns(contents, WHOLE, list(range(len(contents.arrays))), "the table")
    names = [name for name in contents.arrays if name != "folders"]
    if len(names) != 1:
        raise _ambiguous(contents)
    return _array(contents, names[0])


def _one(contents: Contents, text: str) -> Chosen:
    if not contents.is_table and text in contents.arrays:
        return _array(contents, text)
    named, places = _places(contents, text)
    return _columns(contents, named, places, text)


def _places(contents: Contents, text: str) -> tuple[str, list[int]]:
    """The array that a text names, and the numbers of the columns of it; none for all."""
    if contents.is_table:
        return WHOLE, _numbers(list(contents.arrays), text, str(contents.path))
    if text in contents.arrays:
        return text, []
    named, colon, columns = text.rpartition(":")
    matrices = [name for name in contents.arrays if _is_matrix(contents, name)]
    first = next(iter(contents.arrays))  # of a .npy file, whose target may be in a second one
    alone = len(contents.arrays) == 1 or contents.kind == "NumPy array"
    if not colon and alone and first in matrices:
        named, columns = first, text
    if named not in matrices:
        known = ", ".join(shown(name) for name in list(contents.arrays)[:10])
        raise DataError(
            f"{contents.path} has no array {shown(text)}: it has {known}; columns of an array of "
            "two dimensions are named like array:0-31"
        )
    width = contents.arrays[named].shape[1]
    return named, _numbers([str(n) for n in range(width)], columns, str(contents.path))


def _numbers(names: list[str], text: str, path: str) -> list[int]:
    """Numbers of columns by a list of names, numbers and ranges.

    Example:
        >>> _numbers(["a", "b", "c"], "0-1,c", "table.csv")
        [0, 1, 2]
    """
    places: list[int] = []
    by_name = {name: place for place, name in enumerate(names)}
    for part in text.split(","):
        part = part.strip()
        first, dash, last = part.partition("-")
        if part in by_name:
            places.append(by_name[part])
        elif _is_place(part, names):
            places.append(int(part))
        elif dash and _is_place(first, names) and _is_place(last, names) and int(first) < int(last):
            places.extend(range(int(first), int(last) + 1))
        else:
            few = ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
            raise DataError(
                f"{path} has no column {shown(part)}: it has {len(names)}, {few}; give names, "
                f"numbers from 0 to {len(names) - 1}, or ranges such as 0-1, with commas between"
            )
    if len(set(places)) < len(places):
        raise DataError(f"{path}: {text!r} names a column twice: name it once")
    return places


def _is_place(text: str, names: list[str]) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 9 and int(text) < len(names)


def _columns(contents: Contents, named: str, places: list[int], name: str) -> Chosen:
    if not contents.is_table:
        values = contents.arrays[named][:, places]
        return Chosen(name, values, _is_whole(values))
    columns = list(contents.arrays.items())
    picked = [columns[place] for place in places]
    if len(picked) == 1:
        values = picked[0][1]
        return Chosen(name, values, _is_whole(values))
    for key, values in picked:
        if values.dtype.kind == "U":
            raise DataError(
                f"{contents.path}, column {shown(key)}: it holds texts, such as "
                f"{shown(str(values[0]))}: leave it out, or name it alone as --y"
            )
    return Chosen(name, np.stack([values for _, values in picked], 1), False)


def _array(contents: Contents, name: str) -> Chosen:
    values = contents.arrays[name]
    return Chosen(name, values, _is_whole(values))


def _is_whole(values: Array) -> bool:
    """Whether all values are whole numbers, or texts."""
    if values.dtype.kind != "f":
        return True
    return values.ndim < 3 and bool((np.isfinite(values) & (values == np.floor(values))).all())


def _is_matrix(contents: Contents, name: str) -> bool:
    return name in contents.arrays and contents.arrays[name].ndim == 2


def _ambiguous(contents: Contents) -> DataError:
    names = list(contents.arrays)
    known = ", ".join(shown(name) for name in names[:10]) + (", ..." if len(names) > 10 else "")
    return DataError(
        f"{contents.path} holds {len(names)} arrays, {known}: say which is the input and which the "
        "target, with --x and --y; or --x and --input for one that is cut in two"
    )
