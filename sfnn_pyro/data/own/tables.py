"""The reader of tables: values separated by commas, semicolons or tabs."""

from __future__ import annotations

import csv
import io
import itertools
from array import array
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfnn_pyro.data.errors import DataError
from sfnn_pyro.system.numbers import shown

SEPARATORS = ",;\t"


def read_table(contents: bytes, name: str) -> dict[str, NDArray[Any]]:
    r"""The columns of a table in their order, by their names, or by their numbers from 0.

    The first line names the columns if none of its values is a number. A column is one of texts if
    none of its values is a number, and of float64 if all of them are. The separator is the one of
    comma, semicolon and tab that the first line holds most often.

    Raises:
        DataError: a line has another number of values, a value is missing, or a column has numbers
            and texts (the message names the line and the column); or the file is no text.

    Example:
        >>> read_table(b"width,kind\n1.5,a\n2,b\n", "flowers.csv")["kind"].tolist()
        ['a', 'b']
    """
    try:
        text = contents.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{name} is no text in UTF-8 ({error}): save it as UTF-8") from error
    if "\0" in text:
        raise DataError(f"{name} is no text in UTF-8 (it holds null characters): save it as UTF-8")
    first, _, _ = text.partition("\n")
    separator = max(SEPARATORS, key=first.count)
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    try:
        return _columns(lines, name)
    except csv.Error as error:
        raise DataError(f"{name}, line {lines.line_num}: {error}: give a plain table") from error


def _columns(lines: Any, name: str) -> dict[str, NDArray[Any]]:
    head = _next(lines)
    if head is None:
        raise DataError(f"{name} is empty: give a table of at least three lines")
    named = not any(_is_number(value) for value in head)
    names = [value.strip() for value in head] if named else [str(n) for n in range(len(head))]
    if len(set(names)) < len(names):
        twice = next(one for one in names if names.count(one) > 1)
        raise DataError(f"{name} has two columns {shown(twice)}: give each a name of its own")
    row = _next(lines) if named else head
    if row is None:
        raise DataError(f"{name} holds the names of its columns alone: give at least three lines")
    texts = [not _is_number(value) for value in row]
    found: list[Any] = [[] if text else array("d") for text in texts]
    for values in itertools.chain([row], lines):
        if not values:  # an empty line
            continue
        if len(values) != len(names):
            raise DataError(
                f"{name}, line {lines.line_num}: it has {len(values)} values, the first line "
                f"{len(names)}: give every line as many"
            )
        for column, value, text, key in zip(found, values, texts, names, strict=True):
            try:
                column.append(_text(value) if text else float(value))
            except ValueError:
                raise DataError(
                    f"{name}, line {lines.line_num}, column {shown(key)}: "
                    f"{_misfit(value, text, column)}"
                ) from None
    return {
        key: np.array(column, dtype=None if text else np.float64)
        for key, column, text in zip(names, found, texts, strict=True)
    }


def _text(value: str) -> str:
    """A value of a column of texts; ``ValueError`` if it is missing or a number."""
    if not value.strip() or _is_number(value.replace(",", ".")):
        raise ValueError
    return value.strip()


def _misfit(value: str, text: bool, above: Sequence[Any]) -> str:
    """What is wrong with a value that is missing, or of another kind than those above it."""
    if not value.strip():
        return "there is no value: fill it in, or leave the line or the column out"
    if not text:
        return f"{shown(value)} is no number: fill it in, or leave the line out"
    if not _is_number(value):
        return f"{shown(value)} has a decimal comma: write numbers with a point"
    return (
        f"{shown(value)} is a number, and {shown(above[0])} above it is none: give the column "
        "numbers or texts alone"
    )


def _next(lines: Any) -> list[str] | None:
    return next((line for line in lines if line), None)


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True
