"""The reader of the first format: a line of text and a checksum, then a PyTorch archive."""

import hashlib
from pathlib import Path
from typing import Any

from sfnn_pyro.system.regular_files import SealError
from sfnn_pyro.system.tensor_archive import read_archive

PREFIX = b"sfnn_pyro "
KIND_LIMIT = 200
"""Bytes in which the kind of a file and its checksum must end."""


def is_first_format(raw: memoryview) -> bool:
    """Whether a file states that it is of the first format.

    Example:
        >>> is_first_format(memoryview(b"sfnn_pyro model 1"))
        True
    """
    return bytes(raw[: len(PREFIX)]) == PREFIX


def read_first_format(raw: memoryview, kind: str, path: Path) -> dict[str, Any]:
    """The contents of a file of the first format. Executes no code, whatever the file holds.

    Arguments:
        raw: all bytes of the file.
        kind: what it must be, with its version, such as ``"model 1"``.
        path: of the file, for messages.

    Raises:
        SealError: it is another file, of another version, cut or altered.
    """
    start = bytes(raw[:KIND_LIMIT])
    lines = start.split(b"\n", 2)
    if len(lines) < 3 or not start.startswith(PREFIX):
        raise foreign(path)
    stated = lines[0][len(PREFIX) :].decode(errors="replace")
    check_kind(stated, kind, path)
    payload = raw[len(lines[0]) + len(lines[1]) + 2 :]
    if bytes(raw[: len(raw) - len(payload)]) != header(kind, payload):
        raise altered(path)
    return read_table(payload, path)


def header(kind: str, payload: memoryview) -> bytes:
    """What stands before the archive."""
    digest = hashlib.sha256(payload).hexdigest()
    return PREFIX + f"{kind}\n{digest}\n".encode()


def read_table(payload: memoryview, path: Path) -> dict[str, Any]:
    """The table that an archive of ``torch.save`` holds.

    Raises:
        SealError: it holds something else.
    """
    # On bytes that are no archive, zipfile and pickle raise errors of almost any type.
    try:
        contents = read_archive(payload)
    except Exception as error:
        first = str(error).partition("\n")[0] or type(error).__name__
        raise SealError(f"{path} holds no tensors that can be read ({first})") from error
    if not isinstance(contents, dict):
        raise SealError(f"{path} holds no table of names and values")
    return contents


def check_kind(stated: object, kind: str, path: Path) -> None:
    """Refuses a file that states another kind, or another version of it."""
    if stated != kind:
        shown = repr(stated) if isinstance(stated, str) else "unknown"
        raise SealError(
            f"{path} is a file of kind {shown}, not {kind!r}: give the right file, or use the "
            "version of sfnn_pyro that wrote it"
        )


def foreign(path: Path) -> SealError:
    """The error for a file of another program."""
    return SealError(f"{path} is no file of sfnn_pyro: give one that 'sfnn train' wrote")


def altered(path: Path) -> SealError:
    """The error for a file whose checksum is another."""
    return SealError(f"{path} was cut or altered (its checksum is another): use another copy")
