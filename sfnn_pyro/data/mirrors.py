"""Fetching data files from their mirrors into the user's folder."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import pooch
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from sfnn_pyro.data.cache import data_folders, has_checksum
from sfnn_pyro.data.errors import DataError
from sfnn_pyro.data.reading import read_bytes, sha256
from sfnn_pyro.data.sources import Source, SourceFile, source_of

TIMEOUT = 30.0
CHUNK = 2**16
# What gzip may add to contents that do not compress.
OVERHEAD = 2**16


def download(
    name: str,
    *,
    root: Path | str | None = None,
    mirrors: Sequence[str] | None = None,
    progress: bool = True,
) -> Path:
    """Fetch the files of a data set, unless they are there, and check them.

    Every file is tried at one mirror after the other. It is written under another name,
    checked by the SHA-256 of its decompressed contents, and only then renamed into place, so
    that an interruption leaves nothing behind that looks like the file.

    Arguments:
        name: ``"mnist"``, ``"fashion-mnist"``, ``"omniglot"`` or ``"olivetti"``.
        root: the folder to write to; the default is ``SFNN_DATA``, else the user's cache.
        mirrors: addresses of web folders to use instead of the known ones.
        progress: whether to show a progress bar, on standard error, if that is a terminal.

    Returns:
        the folder of the files, ``root / name``.

    Raises:
        DataError: there is nothing to download by that name, the folder cannot be written
            to, or no mirror has a file; the last states every mirror's reason.

    Example:
        >>> download("digits")
        Traceback (most recent call last):
        ...
        sfnn_pyro.data.errors.DataError: 'digits' is no data set to download: choose one of ...
    """
    source = source_of(name)
    folder = data_folders(root)[0] / source.name
    sites = source.mirrors if mirrors is None else tuple(mirrors)
    console = Console(stderr=True)
    with _errors_about(folder), _bars(console, progress and console.is_terminal) as bars:
        folder.mkdir(parents=True, exist_ok=True)
        for file in source.files:
            target = folder / (file.name + source.suffix)
            if not _is_good(target, file, source):
                _from_any(sites, target, file, source, bars)
    return folder


def _is_good(path: Path, file: SourceFile, source: Source) -> bool:
    try:
        _check(path, file, source)
    except _Refused:
        return False
    return True


def _from_any(
    sites: Sequence[str], target: Path, file: SourceFile, source: Source, bars: Progress
) -> None:
    reasons = []
    for site in sites:
        url = f"{site.rstrip('/')}/{target.name}"
        try:
            with _temporary(target) as partial:
                _fetch(url, partial, file, source, bars)
                os.replace(partial, target)
            return
        except _Refused as refusal:
            reasons.append(f"{url}: {refusal}")
    raise DataError(
        f"{source.name}: no mirror gave {target.name} ({'; '.join(reasons) or 'none was named'}): "
        f"check the network and its proxy, or put the file into {target.parent} yourself"
    )


class _Refused(Exception):
    """Why a file could not be downloaded from a mirror."""


def _fetch(url: str, partial: Path, file: SourceFile, source: Source, bars: Progress) -> None:
    downloader = pooch.HTTPDownloader(
        progressbar=_Bar(bars, file.name),
        chunk_size=CHUNK,
        timeout=TIMEOUT,
        # The file as it is stored: else some servers' gzip would be undone on the way.
        headers={"Accept-Encoding": "identity"},
    )
    with open(partial, "xb") as stream:
        try:
            downloader(url, _Capped(stream, file.limit + OVERHEAD), None)
        # What requests raises is an OSError; a nonsensical address or length, a ValueError.
        except (OSError, ValueError) as error:
            raise _Refused(_brief(error)) from error
        stream.flush()
        os.fsync(stream.fileno())
    _check(partial, file, source)


def _brief(error: Exception) -> str:
    """The cause of a network error, without the pools and addresses around it."""
    wrapped = error.args[0] if error.args else None
    text = " ".join(str(getattr(wrapped, "reason", error)).split())
    return text.rpartition("): ")[2].partition(" for url: ")[0]


def _check(path: Path, file: SourceFile, source: Source) -> None:
    """Refuses a file, as a mirror stores it, that is another than was wanted."""
    try:
        contents = read_bytes(path, limit=file.limit)
        stored = path.read_bytes() if source.suffix else contents
    except (DataError, OSError) as error:
        raise _Refused("damaged, or cut off on the way") from error
    if has_checksum(file, contents, stored):
        return
    if file.sha256:
        found, wanted = sha256(contents), file.sha256
        raise _Refused(f"another file (SHA-256 {found[:12]}..., wanted {wanted[:12]}...)")
    raise _Refused(f"another file (Git's SHA-1 is not {file.git_blob[:12]}...)")


@contextmanager
def _temporary(target: Path) -> Iterator[Path]:
    """A name beside ``target``, on the same disk, at which nothing is left afterwards."""
    partial = target.with_name(f".{target.name}~{secrets.token_hex(4)}")
    try:
        yield partial
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def _errors_about(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{folder} cannot be written to ({error.strerror or error}): "
            "free or unlock it, or name another folder"
        ) from error


class _Capped:
    """A file that raises an error when a mirror sends more than was expected."""

    def __init__(self, stream: BinaryIO, limit: int) -> None:
        self._stream = stream
        self._left = limit

    def write(self, data: bytes) -> None:
        self._left -= len(data)
        if self._left < 0:
            raise _Refused("sends more bytes than the file has")
        self._stream.write(data)

    def flush(self) -> None:
        self._stream.flush()


def _bars(console: Console, shown: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        console=console,
        disable=not shown,
    )


class _Bar:
    """One line of a rich progress display, with the interface that pooch expects of tqdm."""

    def __init__(self, bars: Progress, label: str) -> None:
        self._bars = bars
        self._task = bars.add_task(label, total=None)

    @property
    def total(self) -> float | None:
        return self._bars.tasks[self._task].total

    @total.setter
    def total(self, size: int) -> None:
        self._bars.update(self._task, total=size or None)

    def update(self, count: int) -> None:
        self._bars.advance(self._task, count)

    def reset(self) -> None:
        self._bars.reset(self._task)

    def close(self) -> None:
        self._bars.stop_task(self._task)
