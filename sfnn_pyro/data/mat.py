"""Reader of numeric arrays in MATLAB's MAT-files, versions 5 to 7.

``scipy.io.loadmat`` is not used on files from elsewhere: it trusts the sizes that a file
states, and deeply nested cells overflow its stack. Here every size is checked against the
bytes there are, nothing is followed downwards, and variables not asked for stay compressed.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfnn_pyro.data.errors import DataError

HEADER = 128
VERSION_5 = 0x0100
MATRIX, COMPRESSED = 14, 15
DTYPES = {
    1: "i1",
    2: "u1",
    3: "i2",
    4: "u2",
    5: "i4",
    6: "u4",
    7: "f4",
    9: "f8",
    12: "i8",
    13: "u8",
}
NUMERIC_CLASSES = range(6, 16)
COMPLEX = 0x0800
MAX_DIMENSIONS = 8
# Enough for a matrix's flags, dimensions and name, of which MATLAB allows 63 characters.
PEEK = 512


class _Damaged(Exception):
    """Why the bytes at hand are no part of a MAT-file."""


@dataclass(frozen=True)
class _Matrix:
    """A variable's heading, and its values as yet unread."""

    name: str
    flags: int
    shape: tuple[int, ...]
    rest: Iterator[tuple[int, memoryview]]


def parse_mat(
    contents: bytes, names: Sequence[str], file: str, *, limit: int = 2**31
) -> dict[str, NDArray[Any]]:
    """Numeric variables of a MAT-file.

    Arguments:
        contents: the file's bytes.
        names: the variables wanted.
        file: the file's name, for the errors.
        limit: largest number of bytes that a wanted variable may decompress to.

    Returns:
        an array per name, of MATLAB's shape and of the dtype in which the file stores it
        (which, to save space, may be narrower than the variable's class).

    Raises:
        DataError: the contents are damaged or of another version, or a variable is missing, no
            real numeric array, or too large.
    """
    try:
        order = _byte_order(contents)
        found = dict(_variables(memoryview(contents)[HEADER:], order, names, limit))
    except (_Damaged, zlib.error) as error:
        raise DataError(
            f"{file} is no usable MAT-file ({error}): give the original, saved with -v7"
        ) from error
    for name in names:
        if name not in found:
            raise DataError(f"{file} has no variable {name!r}: give the file that has it")
    return found


def _byte_order(contents: bytes) -> str:
    order = {b"IM": "<", b"MI": ">"}.get(contents[126:HEADER])
    if order is None:
        raise _Damaged("its first 128 bytes are not the header of version 5")
    (version,) = struct.unpack_from(f"{order}H", contents, 124)
    if version != VERSION_5:
        raise _Damaged(f"its version is {version:#06x}, not {VERSION_5:#06x}")
    return order


def _variables(
    body: memoryview, order: str, names: Sequence[str], limit: int
) -> Iterator[tuple[str, NDArray[Any]]]:
    for kind, data in _elements(body, order):
        if kind == COMPRESSED:
            kind, data = _decompressed(data, order, names, limit)
        if kind != MATRIX:
            continue
        matrix = _matrix(data, order)
        if matrix.name in names:
            yield matrix.name, _values(matrix, order)


def _decompressed(
    data: memoryview, order: str, names: Sequence[str], limit: int
) -> tuple[int, memoryview]:
    """Kind and contents of a compressed element; only the start of one that is not wanted."""
    stream = zlib.decompressobj()
    start = stream.decompress(data, PEEK)
    if len(start) < 8:
        raise _Damaged("a compressed element is too short")
    kind, size = struct.unpack_from(f"{order}II", start)
    if kind != MATRIX or _matrix(memoryview(start)[8:], order).name not in names:
        return kind, memoryview(start)[8:]
    if size > limit:
        raise _Damaged(f"a variable of {size} bytes, which is more than {limit}")
    # One byte more than stated: it lets zlib reach the end, and check its own checksum.
    whole = start + stream.decompress(stream.unconsumed_tail, max(1, size + 9 - len(start)))
    if len(whole) != size + 8 or not stream.eof:
        raise _Damaged(f"a variable of {size} bytes ends too early or too late")
    return kind, memoryview(whole)[8:]


def _elements(data: memoryview, order: str) -> Iterator[tuple[int, memoryview]]:
    """Each element's kind and bytes; lazily, so that what follows may be missing."""
    at = 0
    while at < len(data):
        if len(data) - at < 8:
            raise _Damaged("it ends within an element")
        kind, size = struct.unpack_from(f"{order}II", data, at)
        start = at + 8
        if kind >> 16:  # a small element: its size, its kind and its data in eight bytes
            kind, size, start = kind & 0xFFFF, kind >> 16, at + 4
        end = start + size
        if end > len(data) or (start == at + 4 and size > 4):
            raise _Damaged(f"an element states {size} bytes and has fewer")
        yield kind, data[start:end]
        at = end if kind == COMPRESSED else end + (-end) % 8


def _matrix(data: memoryview, order: str) -> _Matrix:
    rest = _elements(data, order)
    heading = [bytes(part) for _, part in (next(rest, (0, b"")) for _ in range(3))]
    flags, dimensions, name = heading
    if len(flags) != 8 or len(dimensions) % 4 or not 8 <= len(dimensions) <= 4 * MAX_DIMENSIONS:
        raise _Damaged("a variable has no complete heading")
    shape = struct.unpack(f"{order}{len(dimensions) // 4}i", dimensions)
    return _Matrix(name.decode("latin-1"), struct.unpack_from(f"{order}I", flags)[0], shape, rest)


def _values(matrix: _Matrix, order: str) -> NDArray[Any]:
    kind, data = next(matrix.rest, (0, memoryview(b"")))
    if matrix.flags & 0xFF not in NUMERIC_CLASSES or matrix.flags & COMPLEX or kind not in DTYPES:
        raise _Damaged(f"{matrix.name!r} is no array of real numbers")
    dtype = np.dtype(order + DTYPES[kind])
    if min(matrix.shape) < 1 or math.prod(matrix.shape) * dtype.itemsize != len(data):
        raise _Damaged(f"{matrix.name!r} of shape {matrix.shape} has {len(data)} bytes")
    values = np.frombuffer(data, dtype).reshape(matrix.shape, order="F")
    return values.astype(dtype.newbyteorder("="), copy=False)
