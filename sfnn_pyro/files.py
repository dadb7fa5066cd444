"""Files that are either whole or absent: written beside, checked, and renamed."""

import hashlib
import io
import os
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import torch

STATED = b"sfnn_pyro "
STATED_LIMIT = 200


class WriteError(OSError):
    """A file that cannot be written; the message names it, and what it replaces is unchanged."""


class SealError(ValueError):
    """A file that is not what this package wrote; the message names it and what is wrong."""


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Opens a file that takes its name only when the block ends without an error.

    Arguments:
        path: where the file shall be; its folder is made if needed.

    Raises:
        WriteError: the folder cannot be made or written, or the disk is full; an older file
            is left as it was.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> with replacing(folder / "note.txt") as file:
        ...     _ = file.write(b"whole")
        >>> [path.name for path in folder.iterdir()]
        ['note.txt']
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=_prefix(path))
        try:
            with os.fdopen(handle, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, 0o666 & ~_umask())
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        reason = error.strerror or error
        raise WriteError(
            f"{path} cannot be written ({reason}): make room, or give a folder that can be "
            "written; what was there is unchanged"
        ) from error


def write_text(path: Path, text: str) -> None:
    """Writes a whole text file, or leaves the older one as it was."""
    with replacing(path) as file:
        file.write(text.encode())


def save_figure(figure: Any, path: Path) -> None:
    """Writes a Matplotlib figure whole, in the format that the name's ending says.

    Raises:
        ValueError: no such format.
        WriteError: see ``replacing``.
    """
    kind = path.suffix.lstrip(".") or "png"
    known = figure.canvas.get_supported_filetypes()
    if kind not in known:
        raise ValueError(f"{path}: pictures can be {', '.join(known)}, not {kind}")
    with replacing(path) as file:
        figure.savefig(file, format=kind, dpi=150)


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
        raw = memoryview(path.read_bytes())
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


def remove_leftovers(path: Path) -> None:
    """Removes what a killed process left of a file it was writing."""
    for leftover in path.parent.glob(_prefix(path) + "*"):
        leftover.unlink(missing_ok=True)


def _header(kind: str, payload: memoryview) -> bytes:
    digest = hashlib.sha256(payload).hexdigest()
    return STATED + f"{kind}\n{digest}\n".encode()


def _stated(raw: memoryview) -> tuple[str | None, memoryview]:
    """The kind that a file states, or None, and what follows the header."""
    start = bytes(raw[:STATED_LIMIT])
    lines = start.split(b"\n", 2)
    if len(lines) < 3 or not start.startswith(STATED):
        return None, raw
    kind = lines[0][len(STATED) :].decode(errors="replace")
    return kind, raw[len(lines[0]) + len(lines[1]) + 2 :]


def _unpickled(payload: memoryview, path: Path) -> dict[str, Any]:
    # On bytes that are no archive, zipfile and torch raise errors of almost any type.
    try:
        with zipfile.ZipFile(io.BytesIO(payload)) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > len(payload):
                raise ValueError("it states more than it holds")
        contents = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    except Exception as error:
        first = str(error).partition("\n")[0] or type(error).__name__
        raise SealError(f"{path} holds no tensors that can be read ({first})") from error
    if not isinstance(contents, dict):
        raise SealError(f"{path} holds no table of names and values")
    return contents


def _prefix(path: Path) -> str:
    return f".{path.name}."


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
