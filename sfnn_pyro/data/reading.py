"""Reading a whole file up to a limit of bytes, whether it is compressed or not."""

from __future__ import annotations

import gzip
import hashlib
import io
import zlib
from pathlib import Path
from typing import BinaryIO

from sfnn_pyro.data.errors import DataError

CHUNK = 2**20
GZIP_MAGIC = b"\x1f\x8b"


def read_bytes(path: Path | str, *, limit: int) -> bytes:
    """The contents of a file, decompressed if they are gzip's.

    Arguments:
        path: the file; gzip is recognised by its first bytes, not by its name.
        limit: largest number of decompressed bytes accepted; no more is ever held.

    Raises:
        DataError: the file cannot be opened, is damaged or is too large.
    """
    try:
        with open(path, "rb") as raw:
            compressed = raw.read(2) == GZIP_MAGIC
            raw.seek(0)
            if not compressed:
                return _read_at_most(raw, limit, path)
            with gzip.GzipFile(fileobj=raw) as unzipped:
                return _read_at_most(unzipped, limit, path)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path} is damaged ({error}): fetch the file again") from error
    except OSError as error:
        raise DataError(
            f"{path} cannot be read ({error.strerror or error}): check the path and its permissions"
        ) from error


def decompressed(raw: bytes, *, limit: int, name: str) -> bytes:
    """Some bytes, decompressed if they are gzip's; ``name`` is for the errors.

    Raises:
        DataError: they are damaged, or more than ``limit`` bytes come out.
    """
    if not raw.startswith(GZIP_MAGIC):
        return raw
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(raw)) as unzipped:
            return _read_at_most(unzipped, limit, name)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{name} is damaged ({error}): fetch the file again") from error


def sha256(contents: bytes) -> str:
    """The SHA-256 checksum of some bytes, in hexadecimal."""
    return hashlib.sha256(contents).hexdigest()


def git_blob(contents: bytes) -> str:
    """The name that Git gives to a file of some bytes.

    Example:
        >>> git_blob(b"")
        'e69de29bb2d1d6434b8b29ae775ad8c2e48c5391'
    """
    return hashlib.sha1(b"blob %d\0" % len(contents) + contents, usedforsecurity=False).hexdigest()


def _read_at_most(stream: BinaryIO | gzip.GzipFile, limit: int, path: Path | str) -> bytes:
    # Piece by piece, since read(n) sets n bytes aside before it knows that they exist.
    pieces = []
    left = limit
    while piece := stream.read(min(CHUNK, left + 1)):
        left -= len(piece)
        if left < 0:
            raise DataError(f"{path} holds more than {limit} bytes: give the right file")
        pieces.append(piece)
    return b"".join(pieces)
