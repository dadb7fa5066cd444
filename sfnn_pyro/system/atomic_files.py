"""Files that are either complete or absent: written under another name, then renamed."""

import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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
        WriteError: the folder cannot be made or written, the disk is full, or a link or something
            else than a file has this name; what is there is left as it was.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> with replacing(folder / "note.txt") as file:
        ...     _ = file.write(b"whole")
        >>> [path.name for path in folder.iterdir()]
        ['note.txt']
    """
    check_target(path)
    try:
        with made_folder(path.parent):
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
    except WriteError:  # of another file that the block writes
        raise
    except OSError as error:
        reason = error.strerror or error
        raise WriteError(
            f"{path} cannot be written ({reason}): make room, or give a folder that can be "
            "written; what was there is unchanged"
        ) from error


def check_target(path: Path) -> None:
    """Refuses to write where a link, a device, a pipe or a folder has the name of the file.

    Raises:
        WriteError: the message says what is there.

    Example:
        >>> check_target(Path("/dev/null"))
        Traceback (most recent call last):
            ...
        sfnn_pyro.system.atomic_files.WriteError: /dev/null is a device: give another path
    """
    try:
        mode = path.lstat().st_mode
    except OSError:
        return  # nothing there, or an error that writing meets too
    if stat.S_ISLNK(mode):
        raise WriteError(
            f"{path} is a link, and what it points to shall not be replaced: remove it, or give "
            "another path"
        )
    if not stat.S_ISREG(mode):
        raise WriteError(f"{path} is {kind_of(mode)}: give another path")


def kind_of(mode: int) -> str:
    """What a file that is no regular one is, in words, by its mode."""
    for test, kind in (
        (stat.S_ISDIR, "a folder"),
        (stat.S_ISFIFO, "a pipe"),
        (stat.S_ISSOCK, "a socket"),
    ):
        if test(mode):
            return kind
    return "a device"


@contextmanager
def made_folder(folder: Path) -> Iterator[None]:
    """Makes a folder and those above it; of these none is left empty if the block fails.

    Example:
        >>> import tempfile
        >>> root = Path(tempfile.mkdtemp())
        >>> with made_folder(root / "a" / "b"):
        ...     (root / "a" / "b").is_dir()
        True
        >>> with made_folder(root / "c" / "d"):
        ...     raise KeyError
        Traceback (most recent call last):
            ...
        KeyError
        >>> (root / "c").exists()
        False
    """
    missing = []
    for one in (folder, *folder.parents):
        if one.exists():
            break
        missing.append(one)
    try:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:  # a file, or a link to nothing, has the name of a folder
            raise NotADirectoryError(
                errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder)
            ) from error
        yield
    except BaseException:
        for one in missing:
            with suppress(OSError):  # not there, or no longer empty
                one.rmdir()
        raise


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
