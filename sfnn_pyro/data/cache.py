"""Where data files are kept, and finding them there."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from sfnn_pyro.data.errors import DataError
from sfnn_pyro.data.reading import git_blob, read_bytes, sha256
from sfnn_pyro.data.sources import Source, SourceFile

VARIABLE = "SFNN_DATA"


def data_folders(root: Path | str | None = None) -> list[Path]:
    """The folders that are searched, in order: ``root`` alone, else ``SFNN_DATA`` and the cache."""
    if root is not None:
        return [Path(root)]
    folders = [user_cache()]
    if named := os.environ.get(VARIABLE):
        folders.insert(0, Path(named).expanduser())
    return folders


def user_cache() -> Path:
    """The folder of this package in the user's cache, where operating systems expect it.

    Example:
        >>> user_cache().name
        'sfnn_pyro'
    """
    if sys.platform == "darwin":
        return Path("~/Library/Caches/sfnn_pyro").expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "sfnn_pyro"


def find(source: Source, file: SourceFile, root: Path | str | None = None) -> Path:
    """The path of one file of a source, compressed or not; nothing is downloaded.

    Each folder of ``data_folders(root)`` is searched, its subfolder named after the data set
    first.

    Raises:
        DataError: the file is in none of them; the message says how to get it.
    """
    folders = data_folders(root)
    for folder in folders:
        for path in _candidates(folder, source, file):
            if os.path.isfile(path):
                return path
    searched = " or ".join(str(folder) for folder in folders)
    raise DataError(f"{source.name}: no file {file.name} in {searched}: {source.advice}")


def read_source(
    source: Source, file: SourceFile, root: Path | str | None = None
) -> tuple[Path, bytes]:
    """The path of one file of a source and its decompressed contents, whose checksum is right."""
    path = find(source, file, root)
    contents = read_bytes(path, limit=file.limit)
    stored: bytes | None = contents
    if source.suffix:
        stored = path.read_bytes() if path.suffix == source.suffix else None
    if not has_checksum(file, contents, stored):
        kind = "SHA-256" if file.sha256 else "checksum"
        raise DataError(
            f"{path} is not the {source.name} file {file.name} (its {kind} is another): "
            f"remove it and run `sfnn data download {source.name}`"
        )
    return path, contents


def has_checksum(file: SourceFile, contents: bytes, stored: bytes | None) -> bool:
    """Whether a file has the checksum that is known of it.

    Arguments:
        file: what it shall be.
        contents: its decompressed contents.
        stored: the same as mirrors store them; None for a copy that its owner decompressed.
    """
    if file.sha256:
        return sha256(contents) == file.sha256
    if not file.git_blob:
        return True
    if stored is None:  # all that can be checked is its size
        return len(contents) == file.limit
    return git_blob(stored) == file.git_blob


def _candidates(folder: Path, source: Source, file: SourceFile) -> Iterator[Path]:
    own = folder / source.name
    for place in (own,) if source.shared_names else (own, folder):
        for suffix in ("", ".gz"):
            yield place / (file.name + suffix)
