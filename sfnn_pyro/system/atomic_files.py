"""Files that are either complete or absent: written under another name, then renamed."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any


class WriteError(OSError):
    """A file that cannot be written; the message names it, and what it replaces is unchanged."""


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


def remove_leftovers(path: Path) -> None:
    """Removes what a killed process left of a file it was writing."""
    for leftover in path.parent.glob(_prefix(path) + "*"):
        leftover.unlink(missing_ok=True)


def _prefix(path: Path) -> str:
    return f".{path.name}."


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
