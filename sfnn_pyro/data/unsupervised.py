"""Grey images without inputs or labels, for networks that learn the images' distribution."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from sfnn_pyro.data.digits import SIZES, grey_digits
from sfnn_pyro.data.errors import DataError
from sfnn_pyro.data.mnist import mnist_grey
from sfnn_pyro.data.sources import MNIST
from sfnn_pyro.data.splits import Dataset, Split, assemble, partition, seeded

Provenance = dict[str, str | int]


def load_images(name: str, root: Path | str | None = None) -> Dataset:
    """Images as probabilities of their pixels, for unsupervised learning.

    Sample them anew whenever they are used (``binarise``): that is what the literature calls
    dynamically binarised. Splits: 50,000, 10,000 and 10,000 images of MNIST, the last 10,000 of the
    training file being for validation; 1,197, 300 and 300 of the bundled digits.

    Arguments:
        name: one of ``IMAGE_NAMES``.
        root: the folder to look in, instead of ``SFNN_DATA`` and the user's cache.

    Returns:
        a data set with ``x`` of shape ``(N, 0)`` and ``y`` of shape ``(N, pixels)``, grey values
        in [0, 1].

    Raises:
        DataError: the name is unknown, or a file is missing, damaged or another one.

    Example:
        >>> digits = load_images("digits")
        >>> digits.train.x.shape, digits.train.y.shape
        (torch.Size([1197, 0]), torch.Size([1197, 64]))
    """
    if name not in _READERS:
        raise DataError(f"no images {name!r}: choose one of {', '.join(IMAGE_NAMES)}")
    parts, provenance = _READERS[name](root)
    splits = [
        Split(torch.zeros(len(grey), 0, dtype=torch.float32), grey.flatten(1)) for grey in parts
    ]
    rows, columns = parts[0].shape[1:]
    return assemble(name, splits, "bernoulli", (None, (rows, columns)), provenance)


def _digits(root: Path | str | None) -> tuple[Sequence[Tensor], Provenance]:
    grey, provenance = grey_digits()
    index = partition(len(grey), SIZES, seeded("split_seed", 0))
    return [grey[rows] for rows in index], provenance


def _mnist(root: Path | str | None) -> tuple[Sequence[Tensor], Provenance]:
    parts = [images.to(torch.float32) / 255 for images in mnist_grey(root).values()]
    return parts, {
        f"{file.name}_sha256": file.sha256 for file in MNIST.files if "images" in file.name
    }


_READERS: dict[str, Callable[[Path | str | None], tuple[Sequence[Tensor], Provenance]]] = {
    "digits": _digits,
    "mnist": _mnist,
}
IMAGE_NAMES: tuple[str, ...] = tuple(_READERS)
"""The names that ``load_images`` knows."""
