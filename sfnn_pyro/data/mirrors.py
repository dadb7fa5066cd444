"""Fetching data files from their mirrors into the user's folder."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sfnn_pyro.data.cache import data_folders, has_checksum
from sfnn_pyro.data.errors import DataError
from sfnn_pyro.data.reading import decompressed, sha256
from sfnn_pyro.data.sources import Source, SourceFile, source_of
from sfnn_pyro.system.atomic_files import replacing
from sfnn_pyro.system.extras import needed_for

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

    Every file is tried at one mirror after the other. It is checked by the SHA-256 of its
    decompressed contents, written under another name and only then renamed into place, so that
    an interruption leaves nothing behind that looks like the file.

    Arguments:
        name: ``"mnist"``, ``"fashion-mnist"``, ``"omniglot"`` or ``"olivetti"``.
        root: the folder to write to; the default is ``SFNN_DATA``, else the user's cache.
        mirrors: addresses of web folders to use instead of the known ones.
        progress: whether to show a progress bar, on standard error, if that is a terminal.

    Returns:
        the folder of the files, ``root / name``.

    Raises:
        MissingExtraError: pooch, which the extra ``cli`` brings, is not installed.
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
    shown = progress and sys.stderr is not None and sys.stderr.isatty()
    with _errors_about(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for file in source.files:
            target = folder / (file.name + source.suffix)
            if not _is_good(target, file, source):
                raw = _from_any(sites, target, file, source, shown)
                with replacing(target) as stream:
                    stream.write(raw)
    return folder


def _is_good(path: Path, file: SourceFile, source: Source) -> bool:
    try:
        if path.stat().st_size > file.limit + OVERHEAD:
            return False
        _check(path.read_bytes(), file, source)
    except (OSError, _Refused):
        return False
    return True


def _from_any(
    sites: Sequence[str], target: Path, file: SourceFile, source: Source, shown: bool
) -> bytes:
    reasons = []
    for site in sites:
        url = f"{site.rstrip('/')}/{target.name}"
        try:
            raw = _fetch(url, file, shown)
            _check(raw, file, source)
            return raw
        except _Refused as refusal:
            reasons.append(f"{url}: {refusal}")
    raise DataError(
        f"{source.name}: no mirror gave {target.name} ({'; '.join(reasons) or 'none was named'}): "
        f"check the network and its proxy, or put the file into {target.parent} yourself"
    )


class _Refused(Exception):
    """Why a file could not be downloaded from a mirror."""


def _fetch(url: str, file: SourceFile, shown: bool) -> bytes:
    with needed_for("downloading"):
        import pooch
    downloader = pooch.HTTPDownloader(
        progressbar=shown,
        chunk_size=CHUNK,
        timeout=TIMEOUT,
        # The file as it is stored: else some servers' gzip would be undone on the way.
        headers={"Accept-Encoding": "identity"},
    )
    received = _Capped(file.limit + OVERHEAD)
    try:
        downloader(url, received, None)
    # What requests raises is an OSError; a nonsensical address or length, a ValueError.
    except (OSError, ValueError) as error:
        raise _Refused(_brief(error)) from error
    return received.getvalue()


def _brief(error: Exception) -> str:
    """The cause of a network error, without the pools and addresses around it."""
    wrapped = error.args[0] if error.args else None
    text = " ".join(str(getattr(wrapped, "reason", error)).split())
    return text.rpartition("): ")[2].partition(" for url: ")[0]


def _check(raw: bytes, file: SourceFile, source: Source) -> None:
    """Refuses a file, as a mirror stores it, that is another than was wanted."""
    try:
        contents = decompressed(raw, limit=file.limit, name=file.name)
    except DataError as error:
        raise _Refused("damaged, or cut off on the way") from error
    if has_checksum(file, contents, raw):
        return
    if file.sha256:
        found, wanted = sha256(contents), file.sha256
        raise _Refused(f"another file (SHA-256 {found[:12]}..., wanted {wanted[:12]}...)")
    raise _Refused(f"another file (Git's SHA-1 is not {file.git_blob[:12]}...)")


@contextmanager
def _errors_about(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{folder} cannot be written to ({error.strerror or error}): "
            "free or unlock it, or name another folder"
        ) from error


class _Capped(io.BytesIO):
    """Bytes in memory; an error when a mirror sends more than was expected."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit

    def write(self, data: bytes) -> int:  # type: ignore[override]
        if self.tell() + len(data) > self._limit:
            raise _Refused("sends more bytes than the file has")
        return super().write(data)
