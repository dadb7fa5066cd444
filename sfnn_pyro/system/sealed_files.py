"""Checkpoints: archives as ``torch.save`` writes them, each with a checksum in a file beside it."""

import hashlib
import io
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from sfnn_pyro.system.atomic_files import WriteError, replacing, write_text
from sfnn_pyro.system.first_format import (
    altered,
    check_kind,
    foreign,
    is_first_format,
    read_first_format,
    read_table,
)
from sfnn_pyro.system.regular_files import SealError, read_regular, read_whole

FORMAT = 2
"""The version that is written; the first is still read."""

ARCHIVE = b"PK\x03\x04"
"""The first bytes of an archive."""

CHECKSUM_LIMIT = 2**16
"""Bytes of a file of checksums."""


def write_sealed(path: Path, kind: str, contents: dict[str, Any]) -> None:
    """Writes tensors and plain values as ``torch.save`` does, and a checksum beside.

    The file opens with ``torch.load(path, weights_only=True)``; its entry ``"kind"`` says what it
    is. ``sha256sum -c`` checks it against the file beside it, whose name ends in ``.sha256``.

    Arguments:
        path: where the file shall be; written whole or not at all.
        kind: what the file is, such as ``"checkpoint"``.
        contents: tensors, numbers, strings, and lists and tables of them.

    Raises:
        WriteError: it cannot be written; what was there can still be read.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "note.pt"
        >>> write_sealed(path, "note", {"a": torch.ones(2)})
        >>> torch.load(path, weights_only=True)
        {'kind': 'note 2', 'a': tensor([1., 1.])}
        >>> read_sealed(path, "note")
        {'a': tensor([1., 1.])}
    """
    buffer = io.BytesIO()
    torch.save({"kind": f"{kind} {FORMAT}", **contents}, buffer)
    payload = buffer.getbuffer()
    digest = hashlib.sha256(payload).hexdigest()
    with replacing(path) as file:
        file.write(payload)
        file.flush()
        # Between two renames the process may be killed: until both are done, either file is right.
        _write_checksums(path, [digest, *_checksums(path)])
    with suppress(WriteError):  # the line of the older file does no harm
        _write_checksums(path, [digest])


def read_sealed(path: Path, kind: str) -> dict[str, Any]:
    """The contents of a file of ``write_sealed``, or of the first format.

    Executes no code, whatever the file holds.

    Arguments:
        path: the file.
        kind: what it must be.

    Raises:
        SealError: it cannot be read, is another file, of another version, cut or altered, or has
            no checksum beside it.
    """
    raw = read_whole(path)
    if is_first_format(raw):
        return read_first_format(raw, f"{kind} 1", path)
    if not _is_archive(raw):
        raise foreign(path)
    stated = _checksums(path)
    if not stated:
        raise SealError(f"{path} has no {_beside(path).name} beside it: copy both files")
    if hashlib.sha256(raw).hexdigest() not in stated:
        raise altered(path)
    contents = read_table(raw, path)
    check_kind(contents.pop("kind", None), f"{kind} {FORMAT}", path)
    return contents


def is_sealed(path: Path) -> bool:
    """Whether ``read_sealed`` is the reader of a file, by its first bytes.

    Raises:
        SealError: it cannot be read.
    """
    raw = read_whole(path)
    return is_first_format(raw) or _is_archive(raw)


def remove_sealed(path: Path) -> None:
    """Removes a file of ``write_sealed`` and its checksum, if they are there."""
    path.unlink(missing_ok=True)
    _beside(path).unlink(missing_ok=True)


def _is_archive(raw: memoryview) -> bool:
    return bytes(raw[: len(ARCHIVE)]) == ARCHIVE


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _write_checksums(path: Path, digests: list[str]) -> None:
    """Writes lines as the program ``sha256sum`` does."""
    write_text(_beside(path), "".join(f"{digest}  {path.name}\n" for digest in digests))


def _checksums(path: Path) -> list[str]:
    """The checksums that stand beside a file; none if there is no such file."""
    try:
        text = read_regular(_beside(path), CHECKSUM_LIMIT).decode(errors="replace")
    except OSError:
        return []
    return [line.split()[0] for line in text.splitlines() if line.strip()]
