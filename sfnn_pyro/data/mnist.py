"""MNIST: completion of the lower half, and classification."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from sfnn_pyro.data.cache import read_source
from sfnn_pyro.data.idx import parse_idx
from sfnn_pyro.data.images import binarise, centred, halves
from sfnn_pyro.data.sources import MNIST
from sfnn_pyro.data.splits import Dataset, Split, assemble, seeded

# Positions in ``MNIST.files``.
IMAGES, LABELS, TEST_IMAGES, TEST_LABELS = range(4)
VALIDATION = 10_000


def mnist_grey(root: Path | str | None = None) -> dict[str, Tensor]:
    """MNIST's grey images, for an experiment that samples them anew in every epoch.

    Returns:
        ``{"train": (50000, 28, 28), "validation": (10000, 28, 28), "test": (10000, 28, 28)}``,
        uint8; the validation images are the last 10,000 of the training file.

    Raises:
        DataError: a file is missing or is not the standard one.
    """
    train, validation = _cut(_read(IMAGES, root))
    return {"train": train, "validation": validation, "test": _read(TEST_IMAGES, root)}


def load_mnist_completion(binarisation_seed: int = 0, root: Path | str | None = None) -> Dataset:
    """Complete the lower half of an MNIST digit from its upper half: section 3 of the paper.

    Every pixel is sampled once with its grey value as expectation, first those of the training
    file, then those of the test file, by one generator seeded with ``binarisation_seed``.

    Returns:
        a data set with ``x`` and ``y`` of shape ``(N, 392)``, drawn as 14 x 28; 50,000 training,
        10,000 validation and 10,000 test digits.

    Raises:
        DataError: a file is missing or is not the standard one.
    """
    generator = seeded("binarisation_seed", binarisation_seed)
    train, validation = _cut(binarise(_read(IMAGES, root), generator))
    test = binarise(_read(TEST_IMAGES, root), generator)
    parts = [halves(images) for images in (train, validation, test)]
    provenance = {**_provenance(IMAGES, TEST_IMAGES), "binarisation_seed": binarisation_seed}
    return assemble("mnist", parts, "bernoulli", ((14, 28), (14, 28)), provenance)


def load_mnist_classification(root: Path | str | None = None) -> Dataset:
    """Name an MNIST digit: appendix A of the paper, ten classes.

    Pixels are scaled to [0, 1] less the mean of each pixel over the 50,000 training images;
    the noise that the paper adds in every epoch is the experiment's to add.

    Returns:
        a data set with ``x`` of shape ``(N, 784)`` and ``y`` of shape ``(N,)``.

    Raises:
        DataError: a file is missing or is not the standard one.
    """
    grey = mnist_grey(root)
    labels = [*_cut(_read(LABELS, root)), _read(TEST_LABELS, root)]
    inputs = centred([images.to(torch.float32) / 255 for images in grey.values()])
    parts = [Split(x, y.to(torch.int64)) for x, y in zip(inputs, labels, strict=True)]
    provenance = _provenance(IMAGES, LABELS, TEST_IMAGES, TEST_LABELS)
    return assemble("mnist-classification", parts, "categorical", ((28, 28), None), provenance)


def _read(position: int, root: Path | str | None) -> Tensor:
    path, contents = read_source(MNIST, MNIST.files[position], root)
    return parse_idx(contents, str(path))


def _cut(rows: Tensor) -> tuple[Tensor, Tensor]:
    return rows[:-VALIDATION], rows[-VALIDATION:]


def _provenance(*positions: int) -> dict[str, str | int]:
    files = (MNIST.files[position] for position in positions)
    return {f"{file.name}_sha256": file.sha256 for file in files}
