"""Reader of the IDX format, in which MNIST is distributed."""

from __future__ import annotations

import math
import struct
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sfnn_pyro.data.errors import DataError
from sfnn_pyro.data.reading import read_bytes

LIMIT = 2**30
DTYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
MAX_DIMENSIONS = 8


def read_idx(path: Path | str, *, limit: int = LIMIT) -> Tensor:
    """Read an IDX file, compressed by gzip or not, into a tensor.

    The header is two zero bytes, a byte for the dtype, a byte for the number of dimensions,
    and each dimension as a big-endian 32-bit number; the values follow, last index fastest.
    Nothing is allocated on the header's word alone.

    Arguments:
        path: the file; gzip is recognised by its first bytes, not by its name.
        limit: largest number of decompressed bytes accepted.

    Returns:
        a tensor of the header's dtype and shape.

    Raises:
        DataError: the file cannot be read, is no IDX file, ends too early or too late, holds
            NaN or infinity, or is larger than ``limit``.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "labels.idx"
        ...     _ = path.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 2, 1]))
        ...     read_idx(path)
        tensor([7, 2, 1], dtype=torch.uint8)
    """
    return parse_idx(read_bytes(path, limit=limit), str(path))


def parse_idx(contents: bytes, name: str) -> Tensor:
    """The tensor in the decompressed contents of an IDX file; ``name`` is for the errors."""
    dtype, shape = _header(contents, name)
    start = 4 + 4 * len(shape)
    if 0 in shape:
        raise DataError(f"{name} states the empty shape {shape}: give a file with values")
    stated = math.prod(shape) * dtype.itemsize
    if stated != len(contents) - start:
        raise DataError(
            f"{name} states {stated} bytes of values and holds {len(contents) - start}: "
            "fetch the file again"
        )
    values = np.frombuffer(contents, dtype, offset=start).astype(dtype.newbyteorder("="))
    if not np.isfinite(values).all():
        raise DataError(f"{name} holds NaN or infinity: give a file of finite numbers")
    return torch.from_numpy(values.reshape(shape))


def _header(contents: bytes, name: str) -> tuple[np.dtype, tuple[int, ...]]:
    if len(contents) < 4 or contents[:2] != b"\0\0" or contents[2] not in DTYPES:
        raise DataError(
            f"{name} starts with {contents[:4].hex(' ') or 'nothing'}, which is no IDX header: "
            "give an IDX file"
        )
    ndim = contents[3]
    if not 1 <= ndim <= MAX_DIMENSIONS:
        raise DataError(f"{name} states {ndim} dimensions: give one of 1 to {MAX_DIMENSIONS}")
    if len(contents) < 4 + 4 * ndim:
        raise DataError(f"{name} ends within its header: fetch the file again")
    return np.dtype(DTYPES[contents[2]]), struct.unpack_from(f">{ndim}I", contents, 4)
