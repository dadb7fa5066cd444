"""scikit-learn's bundled 8 x 8 digits: the embedded default, no download needed."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from sfnn_pyro.data.images import binarise, centred, fresh_halves, halves
from sfnn_pyro.data.reading import sha256
from sfnn_pyro.data.splits import Dataset, Split, assemble, partition, seeded

SIZES = (1197, 300, 300)
SOURCE = "sklearn.datasets.load_digits"


def load_digits_completion(binarisation_seed: int = 0, split_seed: int = 0) -> Dataset:
    """Complete the lower half of an 8 x 8 digit from its upper half.

    Grey values 0 to 16 are divided by 16 and every pixel is sampled once with the quotient as
    its expectation, as the paper does with MNIST. The rows are shuffled by ``split_seed`` into
    1,197 training, 300 validation and 300 test digits.

    Returns:
        a data set with ``x`` and ``y`` of shape ``(N, 32)``, drawn as 4 x 8.

    Example:
        >>> load_digits_completion().test.x.shape
        torch.Size([300, 32])
    """
    grey, _ = _read()
    binary = binarise(grey, seeded("binarisation_seed", binarisation_seed))
    index = partition(len(binary), SIZES, seeded("split_seed", split_seed))
    parts = [halves(binary[rows]) for rows in index]
    provenance = {**_provenance(grey, split_seed), "binarisation_seed": binarisation_seed}
    data = assemble("digits", parts, "bernoulli", ((4, 8), (4, 8)), provenance)
    return replace(data, fresh=fresh_halves(grey[index[0]]))


def load_digits_classification(split_seed: int = 0) -> Dataset:
    """Name the digit in an 8 x 8 image: ten classes.

    Grey values are scaled to [0, 1] less the mean of each pixel over the training images; the
    split is that of ``load_digits_completion``.

    Returns:
        a data set with ``x`` of shape ``(N, 64)`` and ``y`` of shape ``(N,)``.

    Example:
        >>> load_digits_classification().y_size
        10
    """
    grey, labels = _read()
    index = partition(len(grey), SIZES, seeded("split_seed", split_seed))
    inputs = centred([grey[rows] for rows in index])
    parts = [Split(x, labels[rows]) for x, rows in zip(inputs, index, strict=True)]
    provenance = _provenance(grey, split_seed)
    return assemble("digits-classification", parts, "categorical", ((8, 8), None), provenance)


def grey_digits() -> tuple[Tensor, dict[str, str | int]]:
    """All images, ``(1797, 8, 8)`` in [0, 1], and where they are from."""
    grey, _ = _read()
    return grey, _provenance(grey, 0)


def _read() -> tuple[Tensor, Tensor]:
    # scikit-learn takes a second to import, which only these two loaders should cost.
    from sklearn.datasets import load_digits

    bundle = load_digits()
    grey = torch.from_numpy(bundle.images).to(torch.float32) / 16  # (1797, 8, 8)
    return grey, torch.from_numpy(bundle.target).to(torch.int64)


def _provenance(grey: Tensor, split_seed: int) -> dict[str, str | int]:
    values = (grey * 16).to(torch.uint8).numpy().tobytes()
    return {
        "source": SOURCE,
        "source_sha256": sha256(values),
        "split_seed": split_seed,
    }
