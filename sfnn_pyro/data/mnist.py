"""MNIST and Fashion-MNIST: completion of the lower half, and classification."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from sfnn_pyro.data.cache import read_source
from sfnn_pyro.data.idx import parse_idx
from sfnn_pyro.data.images import binarise, centred, fresh_halves, halves
from sfnn_pyro.data.sources import FASHION, MNIST, Source
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
    return _grey(MNIST, root)


def fashion_grey(root: Path | str | None = None) -> dict[str, Tensor]:
    """Fashion-MNIST's grey images, of the same splits and sizes as those of ``mnist_grey``.

    Raises:
        DataError: a file is missing or is not the standard one.
    """
    return _grey(FASHION, root)


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
    return _completion(MNIST, binarisation_seed, root)


def load_mnist_classification(root: Path | str | None = None) -> Dataset:
    """Name an MNIST digit: appendix A of the paper, ten classes.

    Pixels are scaled to [0, 1] less the mean of each pixel over the 50,000 training images;
    the noise that the paper adds in every epoch is the experiment's to add.

    Returns:
        a data set with ``x`` of shape ``(N, 784)`` and ``y`` of shape ``(N,)``.

    Raises:
        DataError: a file is missing or is not the standard one.
    """
    return _classification(MNIST, root)


def load_fashion_completion(binarisation_seed: int = 0, root: Path | str | None = None) -> Dataset:
    """Complete the lower half of a garment of Fashion-MNIST: the task of MNIST, same sizes.

    Raises:
        DataError: a file is missing or is not the standard one.
    """
    return _completion(FASHION, binarisation_seed, root)


def load_fashion_classification(root: Path | str | None = None) -> Dataset:
    """Name a garment of Fashion-MNIST: the task of MNIST, same sizes.

    Raises:
        DataError: a file is missing or is not the standard one.
    """
    return _classification(FASHION, root)


def _completion(source: Source, binarisation_seed: int, root: Path | str | None) -> Dataset:
    generator = seeded("binarisation_seed", binarisation_seed)
    grey = _grey(source, root)
    both = binarise(torch.cat([grey["train"], grey["validation"]]), generator)
    test = binarise(grey["test"], generator)
    parts = [halves(images) for images in (*_cut(both), test)]
    noted = _provenance(source, IMAGES, TEST_IMAGES)
    provenance = {**noted, "binarisation_seed": binarisation_seed}
    data = assemble(source.name, parts, "bernoulli", ((14, 28), (14, 28)), provenance)
    return replace(data, fresh=fresh_halves(grey["train"]))


def _classification(source: Source, root: Path | str | None) -> Dataset:
    grey = _grey(source, root)
    labels = [*_cut(_read(source, LABELS, root)), _read(source, TEST_LABELS, root)]
    inputs = centred([images.to(torch.float32) / 255 for images in grey.values()])
    parts = [Split(x, y.to(torch.int64)) for x, y in zip(inputs, labels, strict=True)]
    provenance = _provenance(source, IMAGES, LABELS, TEST_IMAGES, TEST_LABELS)
    name = f"{source.name}-classification"
    return assemble(name, parts, "categorical", ((28, 28), None), provenance)


def _grey(source: Source, root: Path | str | None) -> dict[str, Tensor]:
    train, validation = _cut(_read(source, IMAGES, root))
    return {"train": train, "validation": validation, "test": _read(source, TEST_IMAGES, root)}


def _read(source: Source, position: int, root: Path | str | None) -> Tensor:
    path, contents = read_source(source, source.files[position], root)
    return parse_idx(contents, str(path))


def _cut(rows: Tensor) -> tuple[Tensor, Tensor]:
    return rows[:-VALIDATION], rows[-VALIDATION:]


def _provenance(source: Source, *positions: int) -> dict[str, str | int]:
    files = (source.files[position] for position in positions)
    return {f"{file.name}_sha256": file.sha256 or file.git_blob for file in files}
