"""What a file of a person's own holds, and its checksum."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from sfnn_pyro.data.errors import DataError
from sfnn_pyro.data.own.arrays import read_npy, read_npz, read_safetensors
from sfnn_pyro.data.own.pictures import picture_files, read_pictures
from sfnn_pyro.data.own.tables import read_table
from sfnn_pyro.data.reading import decompressed
from sfnn_pyro.system.memory import available_memory
from sfnn_pyro.system.regular_files import read_regular

Array = NDArray[Any]

READERS: dict[str, tuple[str, Callable[[bytes, str], dict[str, Array]]]] = {
    ".npz": ("NumPy archive", read_npz),
    ".npy": ("NumPy array", read_npy),
    ".csv": ("table", read_table),
    ".tsv": ("table", read_table),
    ".safetensors": ("safetensors archive", read_safetensors),
}
KINDS = (*READERS, "a folder of pictures")
MEMORY_SHARE = 4
"""A file may take this part of the memory: it is held several times while it is prepared."""


@dataclass(frozen=True, eq=False)
class Contents:
    """What a file holds.

    Arguments:
        path: of the file or folder.
        kind: what it is, in words.
        arrays: by name; the columns of a table, each ``(N,)``.
        sha256: its checksum; of a folder, of the names and checksums of its pictures.
        size: bytes.
        left_out: names of files of a folder that are no pictures.
    """

    path: Path
    kind: str
    arrays: dict[str, Array]
    sha256: str
    size: int
    left_out: list[str] = field(default_factory=list)

    @property
    def is_table(self) -> bool:
        """Whether the arrays are columns."""
        return self.kind == "table"


def read_contents(path: Path, second: Path | None = None, shape: tuple[int, ...] = ()) -> Contents:
    """Reads a file of one of the known kinds, or a folder of pictures.

    Arguments:
        path: the file or folder.
        second: a ``.npy`` file whose array is added under its path.
        shape: rows and columns to which the pictures of a folder are resized; none unless given.

    Raises:
        DataError: it cannot be read, is of no known kind, or is damaged.
    """
    contents = _read_folder(path, shape) if path.is_dir() else _read_file(path)
    if second is None:
        return contents
    beside = _read_file(second)
    if not suffix_of(second) == ".npy":
        raise DataError(f"{second} is no .npy file: give the array of the targets as one")
    arrays = {**contents.arrays, str(second): next(iter(beside.arrays.values()))}
    return Contents(
        path,
        contents.kind,
        arrays,
        _joined([contents.sha256, beside.sha256]),
        contents.size + beside.size,
        contents.left_out,
    )


def checksum_of(path: Path, second: Path | None = None) -> str:
    """The checksum that ``read_contents`` states, without reading more than bytes."""
    if path.is_dir():
        files, _ = picture_files(path)
        first = _folder_checksum((name, _digest(bytes_of(file))) for name, file in files)
    else:
        first = _digest(bytes_of(path))
    return first if second is None else _joined([first, _digest(bytes_of(second))])


def suffix_of(path: Path) -> str:
    """The ending of a file's name that says its kind; that of gzip does not count.

    Example:
        >>> suffix_of(Path("Table.CSV.gz"))
        '.csv'
    """
    name = path.name.lower().removesuffix(".gz")
    return os.path.splitext(name)[1]


def _read_file(path: Path) -> Contents:
    known = READERS.get(suffix_of(path))
    if known is None:
        if not path.exists():
            raise DataError(f"{path} does not exist: check the path")
        raise DataError(f"{path} is of no known kind: give one of {', '.join(KINDS)}")
    raw = bytes_of(path)
    kind, read = known
    contents = decompressed(raw, limit=size_limit(), name=str(path))
    return Contents(path, kind, read(contents, str(path)), _digest(raw), len(raw))


def _read_folder(path: Path, shape: tuple[int, ...]) -> Contents:
    files, left_out = picture_files(path)
    if not files:
        few = ", ".join(left_out[:3]) or "nothing"
        raise DataError(
            f"{path} holds no pictures (it holds {few}): give a folder of .png or .jpg files"
        )
    digests: list[tuple[str, str]] = []
    sizes: list[int] = []

    def opened(name: str, file: Path) -> bytes:
        raw = bytes_of(file)
        digests.append((name, _digest(raw)))
        sizes.append(len(raw))
        return raw

    arrays = read_pictures(files, opened, shape, size_limit())
    return Contents(
        path, "folder of pictures", arrays, _folder_checksum(digests), sum(sizes), left_out
    )


def bytes_of(path: Path) -> bytes:
    """The contents of a file, as they are.

    Raises:
        DataError: it cannot be read, is no file, or is too large.
    """
    try:
        return read_regular(path, size_limit())
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        reason = getattr(error, "strerror", None) or error
        raise DataError(
            f"{path} cannot be read ({reason}): check the path and its permissions"
        ) from error


def size_limit() -> int:
    """Bytes that a file may hold."""
    return available_memory() // MEMORY_SHARE


def _digest(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


def _folder_checksum(pairs: Any) -> str:
    return _joined([part for name, digest in pairs for part in (repr(name), digest)])


def _joined(parts: list[str]) -> str:
    return _digest("\n".join(parts).encode())
