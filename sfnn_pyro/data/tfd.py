"""The Toronto Face Database, from the user's own copy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sfnn_pyro.data.cache import read_source
from sfnn_pyro.data.errors import DataError
from sfnn_pyro.data.faces import SHAPE, by_person
from sfnn_pyro.data.mat import parse_mat
from sfnn_pyro.data.reading import sha256
from sfnn_pyro.data.sources import TFD
from sfnn_pyro.data.splits import Dataset

Array = NDArray[Any]

UNKNOWN = -1
AT_LEAST = 10
# The paper's numbers of people.
TRAIN, TEST = 100, 31


def load_tfd(split_seed: int = 0, root: Path | str | None = None) -> Dataset:
    """Predict the expressions of a person's face from the mean of that person's images.

    This is the second benchmark of section 3 of the paper. The file ``TFD_48x48.mat`` is not
    public: bring your own. Its images ``images`` (N, 48, 48) with a known expression
    (``labs_ex``) and person (``labs_id``; in both, -1 is unknown) are used of all people who have
    at least ten different ones; equal images of a person count once. Grey values are scaled
    to [0, 1]. Of the people, in the paper's ratio of 100 to 31, some train and the others
    test, as ``split_seed`` has it; a tenth of those who train are set aside for validation. (The
    paper, which had no validation set here, trained on both: concatenate the two splits.)

    Returns:
        a data set with ``x`` and ``y`` of shape ``(N, 2304)``, drawn as 48 x 48.

    Raises:
        DataError: the file is missing, is damaged, or has too few such people.
    """
    path, contents = read_source(TFD, TFD.files[0], root)
    arrays = parse_mat(contents, ["images", "labs_ex", "labs_id"], str(path))
    try:
        images, person = _usable(arrays)
        sizes = _sizes(len(np.unique(person)))
    except _Unfit as reason:
        raise DataError(f"{path} {reason}: give the original TFD_48x48.mat") from reason
    provenance: dict[str, str | int] = {
        "source": TFD.files[0].name,
        "source_sha256": sha256(contents),
        "images": len(images),
        "people": sum(sizes),
    }
    grey = torch.from_numpy(images.astype(np.float32)) / 255
    return by_person("tfd", grey, torch.from_numpy(person), sizes, split_seed, provenance)


class _Unfit(Exception):
    """What is wrong with the contents of the file."""


def _usable(arrays: dict[str, Array]) -> tuple[Array, Array]:
    """Images and persons of the people who have enough different labelled images."""
    images = arrays["images"]
    if images.ndim != 3 or images.shape[1:] != SHAPE:
        raise _Unfit(f"has images of shape {images.shape}, not (N, 48, 48)")
    expression, person = (_labels(arrays, name, len(images)) for name in ("labs_ex", "labs_id"))
    rows = np.flatnonzero((expression != UNKNOWN) & (person != UNKNOWN))
    rows = rows[_first_copies(images[rows], person[rows])]
    who, count = np.unique(person[rows], return_counts=True)
    rows = rows[np.isin(person[rows], who[count >= AT_LEAST])]
    chosen = images[rows]
    # Written so that a NaN fails too.
    if not ((chosen >= 0) & (chosen <= 255)).all():
        raise _Unfit("has grey values outside 0 to 255")
    return chosen, person[rows]


def _labels(arrays: dict[str, Array], name: str, count: int) -> Array:
    labels = arrays[name].ravel()
    if len(labels) != count:
        raise _Unfit(f"has {count} images and {len(labels)} of {name}")
    small = ((labels >= -(2**31)) & (labels < 2**31)).all()
    if not small or (labels != np.floor(labels)).any():
        raise _Unfit(f"has {name} that are no whole numbers")
    return labels.astype(np.int64)


def _first_copies(images: Array, person: Array) -> list[int]:
    first: dict[tuple[int, bytes], int] = {}
    for row, (image, who) in enumerate(zip(images, person, strict=True)):
        first.setdefault((int(who), image.tobytes()), row)
    return list(first.values())


def _sizes(people: int) -> tuple[int, int, int]:
    if people < 3:
        raise _Unfit(f"has {people} people with {AT_LEAST} different labelled images, not 3")
    test = min(max(1, round(people * TEST / (TRAIN + TEST))), people - 2)
    validation = max(1, round((people - test) / 10))
    return people - test - validation, validation, test
