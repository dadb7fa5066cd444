"""Files of tensors and plain values that state what they are, with a checksum."""

import hashlib
import io
from pathlib import Path
from typing import Any

import torch

from sfnn_pyro.system.atomic_files import replacing
from sfnn_pyro.system.regular_files import read_regular
from sfnn_pyro.system.tensor_archive import read_archive

PREFIX = b"sfnn_pyro "
KIND_LIMIT = 200
"""Bytes in which the kind of a file and its checksum must end."""


class SealError(ValueError):
    """A file that is not what this package wrote; the message names it and what is wrong."""


def write_sealed(path: Path, kind: str, contents: dict[str, Any]) -> None:
    """Writes tensors and plain values under a line that says what they are, and a checksum.

    Arguments:
        path: where the file shall be; written whole or not at all.
        kind: what the file is, and its version, such as ``"model 1"``.
        contents: tensors, numbers, strings, and lists and tables of them.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "note"
        >>> write_sealed(path, "note 1", {"a": torch.ones(2)})
        >>> path.read_bytes().splitlines()[0]
        b'sfnn_pyro note 1'
        >>> read_sealed(path, "note 1")
        {'a': tensor([1., 1.])}
    """
    buffer = io.BytesIO()
    torch.save(contents, buffer)
    payload = buffer.getbuffer()
    with replacing(path) as file:
        file.write(_header(kind, payload))
        file.write(payload)


def read_sealed(path: Path, kind: str) -> dict[str, Any]:
    """The contents of a sealed file. Executes no code, whatever the file holds.

    Arguments:
        path: the file.
        kind: what it must be.

    Raises:
        SealError: it cannot be read, is another file, of another version, cut or altered.
    """
    try:
        raw = memoryview(read_regular(path))
    except OSError as error:
        raise SealError(f"{path} cannot be read ({error.strerror or error})") from error
    stated, payload = _stated(raw)
    if stated is None:
        raise SealError(f"{path} is no file of sfnn_pyro: give one that 'sfnn train' wrote")
    if stated != kind:
        raise SealError(
            f"{path} is a file of kind {stated!r}, not {kind!r}: give the right file, or use the "
            "version of sfnn_pyro that wrote it"
        )
    if bytes(raw[: len(raw) - len(payload)]) != _header(kind, payload):
        raise SealError(f"{path} was cut or altered (its checksum is another): use another copy")
    return _unpickled(payload, path)


def _header(kind: str, payload: memoryview) -> bytes:
    digest = hashlib.sha256(payload).hexdigest()
    return PREFIX + f"{kind}\n{digest}\n".encode()


def _stated(raw: memoryview) -> tuple[str | None, memoryview]:
    """The kind that a file states, or None, and what follows the header."""
    start = bytes(raw[:KIND_LIMIT])
    lines = start.split(b"\n", 2)
    if len(lines) < 3 or not start.startswith(PREFIX):
        return None, raw
    kind = lines[0][len(PREFIX) :].decode(errors="replace")
    return kind, raw[len(lines[0]) + len(lines[1]) + 2 :]


def _unpickled(payload: memoryview, path: Path) -> dict[str, Any]:
    # On bytes that are no archive, zipfile and pickle raise errors of almost any type.
    try:
        contents = read_archive(payload)
    except Exception as error:
        first = str(error).partition("\n")[0] or type(error).__name__
        raise SealError(f"{path} holds no tensors that can be read ({first})") from error
    if not isinstance(contents, dict):
        raise SealError(f"{path} holds no table of names and values")
    return contents
