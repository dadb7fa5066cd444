"""Grey images without inputs or labels, for networks that learn the images' distribution."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from sfnn_pyro.data.digits import SIZES, grey_digits
from sfnn_pyro.data.errors import DataError
from sfnn_pyro.data.mnist import fashion_grey, mnist_grey
from sfnn_pyro.data.omniglot import omniglot_grey
from sfnn_pyro.data.sources import FASHION, MNIST, OMNIGLOT, Source
from sfnn_pyro.data.splits import Dataset, Split, assemble, partition, seeded

Provenance = dict[str, str | int]


def load_images(name: str, root: Path | str | None = None) -> Dataset:
    """Images as probabilities of their pixels, for unsupervised learning.

    Sample them anew whenever they are used (``binarise``): that is what the literature calls
    dynamically binarised. Splits: 50,000, 10,000 and 10,000 images of MNIST and Fashion-MNIST, the
    last 10,000 of the training file being for validation; 23,000, 1,345 and 8,070 of Omniglot;
    1,197, 300 and 300 of the bundled digits.

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
    return _bytes(mnist_grey(root)), _checksums(MNIST)


def _fashion(root: Path | str | None) -> tuple[Sequence[Tensor], Provenance]:
    return _bytes(fashion_grey(root)), _checksums(FASHION)


def _omniglot(root: Path | str | None) -> tuple[Sequence[Tensor], Provenance]:
    split_seed = 0
    parts = list(omniglot_grey(split_seed, root).values())
    return parts, {**_checksums(OMNIGLOT), "split_seed": split_seed}


def _bytes(images: Mapping[str, Tensor]) -> list[Tensor]:
    """Bytes as grey values in [0, 1]."""
    return [part.to(torch.float32) / 255 for part in images.values()]


def _checksums(source: Source) -> Provenance:
    """The checksum known of every file of images, as result files name it."""
    return {
        f"{file.name}_{'sha256' if file.sha256 else 'git_blob'}": file.sha256 or file.git_blob
        for file in source.files
        if "labels" not in file.name
    }


_READERS: dict[str, Callable[[Path | str | None], tuple[Sequence[Tensor], Provenance]]] = {
    "digits": _digits,
    "mnist": _mnist,
    "fashion-mnist": _fashion,
    "omniglot": _omniglot,
}
IMAGE_NAMES: tuple[str, ...] = tuple(_READERS)
"""The names that ``load_images`` knows."""
