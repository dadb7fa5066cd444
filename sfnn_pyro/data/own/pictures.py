"""The reader of a folder of pictures."""

from __future__ import annotations

import io
import math
import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfnn_pyro.data.errors import DataError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".pbm")
MAX_PIXELS = 2**26
"""Of one picture."""


def picture_files(folder: Path) -> tuple[list[tuple[str, Path]], list[str]]:
    """The pictures of a folder and of those in it, in the order of their names, and the rest.

    Returns:
        Names relative to the folder with their paths; and the names of the other files, and of
        links to folders, which are not followed. Names that begin with a dot are neither.
    """
    pictures: list[tuple[str, Path]] = []
    others: list[str] = []
    for place, folders, names in os.walk(folder, onerror=_refuse):
        folders[:] = sorted(one for one in folders if not one.startswith("."))
        linked = [one for one in folders if (Path(place) / one).is_symlink()]
        others.extend((Path(place) / one).relative_to(folder).as_posix() for one in linked)
        for name in names:
            if name.startswith("."):
                continue
            path = Path(place) / name
            relative = path.relative_to(folder).as_posix()
            if path.suffix.lower() in SUFFIXES:
                pictures.append((relative, path))
            else:
                others.append(relative)
    return sorted(pictures), sorted(others)


def read_pictures(
    files: Sequence[tuple[str, Path]],
    opened: Callable[[str, Path], bytes],
    shape: tuple[int, ...],
    limit: int,
) -> dict[str, NDArray[Any]]:
    """The pictures in grey, ``"pictures"`` (N, rows, columns), and the ``"folders"`` they are in.

    Transparent parts are white. Of a picture of several frames the first is taken.

    Arguments:
        files: names and paths.
        opened: the bytes of a file.
        shape: rows and columns to which each is resized; if empty, all must have one size.
        limit: bytes that the pictures may take together.

    Raises:
        DataError: a picture is damaged or too large, or has another size than the first.
    """
    _check_size(len(files), shape, limit)
    grey: list[NDArray[Any]] = []
    for name, path in files:
        picture = read_picture(opened(name, path), str(path), shape)
        if grey and picture.shape != grey[0].shape:
            raise DataError(
                f"{path} has {_size(picture)} pixels and {files[0][1]} {_size(grey[0])}: give "
                "--shape, to which all are resized, such as 28x28"
            )
        if not grey:
            _check_size(len(files), picture.shape, limit, picture.itemsize)
        grey.append(picture)
    if len({picture.dtype for picture in grey}) > 1:  # bytes beside more than 256 shades
        grey = [picture / np.float32(255) if _is_bytes(picture) else picture for picture in grey]
    arrays = {"pictures": np.stack(grey)}
    folders = [os.path.dirname(name) for name, _ in files]
    if len(set(folders)) > 1:
        arrays["folders"] = np.array(folders)
    return arrays


def read_picture(raw: bytes, name: str, shape: tuple[int, ...] = ()) -> NDArray[Any]:
    """A picture in grey, uint8, or float32 in [0, 1] where it has more than 256 shades."""
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        raise DataError(f"{name}: Pillow is not installed: pip install 'sfnn_pyro[cli]'") from error
    try:
        with warnings.catch_warnings(), Image.open(io.BytesIO(raw)) as picture:
            warnings.simplefilter("ignore")
            if picture.width * picture.height > MAX_PIXELS:
                raise Image.DecompressionBombError
            return _grey(picture, name, shape)
    except DataError:
        raise
    except UnidentifiedImageError as error:
        raise DataError(
            f"{name} is no picture that can be read (it is empty, cut or none): remove it, or use "
            "another copy"
        ) from error
    except Image.DecompressionBombError as error:
        raise DataError(f"{name} has more than {MAX_PIXELS:,} pixels: make it smaller") from error
    except Exception as error:  # the readers of some fifty formats raise what they like
        first = str(error).partition("\n")[0]
        raise DataError(
            f"{name} is no picture that can be read ({first[:100]}): remove it, or use another copy"
        ) from error


def _grey(picture: Any, name: str, shape: tuple[int, ...]) -> NDArray[Any]:
    from PIL import Image

    if picture.mode.startswith(("I", "F")):  # 16 bits and more
        values = np.asarray(picture, dtype=np.float32)
        largest = 65535.0 if picture.mode.startswith("I") else 1.0
        if not ((values >= 0) & (values <= largest)).all():
            raise DataError(
                f"{name} has grey values from {values.min():g} to {values.max():g}: they must lie "
                f"between 0 and {largest:g}"
            )
        found = Image.fromarray(values / np.float32(largest))
    else:
        if picture.mode in ("LA", "PA", "RGBA", "RGBa", "La") or "transparency" in picture.info:
            colours = picture.convert("RGBA")
            paper = Image.new("RGBA", colours.size, "white")
            picture = Image.alpha_composite(paper, colours)
        found = picture.convert("L")
    if shape and (found.height, found.width) != tuple(shape):
        found = found.resize((shape[1], shape[0]), Image.Resampling.BOX)
    return np.array(found)


def _check_size(count: int, shape: tuple[int, ...], limit: int, size: int = 1) -> None:
    """Refuses pictures of a shape that are too large, before there is one of them."""
    pixels = math.prod(shape)
    if pixels > MAX_PIXELS or pixels * count * size > limit:
        raise DataError(
            f"{count:,} pictures of {' x '.join(map(str, shape))} pixels do not fit the memory: "
            "give a smaller --shape"
        )


def _is_bytes(picture: NDArray[Any]) -> bool:
    return picture.dtype == np.uint8


def _size(picture: NDArray[Any]) -> str:
    return f"{picture.shape[0]} x {picture.shape[1]}"


def _refuse(error: OSError) -> None:
    raise DataError(
        f"{error.filename} cannot be read ({error.strerror}): check its permissions"
    ) from error
