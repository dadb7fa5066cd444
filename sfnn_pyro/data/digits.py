"""The 8 x 8 digits of the UCI repository, a file of this package: no download needed."""

from __future__ import annotations

import io
from dataclasses import replace
from importlib.resources import files

import numpy as np
import torch
from torch import Tensor

from sfnn_pyro.data.images import binarise, centred, fresh_halves, halves
from sfnn_pyro.data.reading import sha256
from sfnn_pyro.data.splits import Dataset, Split, assemble, partition, seeded

SIZES = (1197, 300, 300)
CREDIT = (
    "E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning "
    "Repository, doi.org/10.24432/C50P49, CC BY 4.0"
)


def load_digits_completion(binarisation_seed: int = 0, split_seed: int = 0) -> Dataset:
    """Complete the lower half of an 8 x 8 digit from its upper half.

    Grey values 0 to 16 are divided by 16 and every pixel is sampled once with the quotient as
    its expectation, as the paper does with MNIST. The rows are shuffled by ``split_seed`` into
    1,197 training, 300 validation and 300 test digits.

    References:
        Alpaydin, Kaynak, *Optical Recognition of Handwritten Digits*, UCI Machine Learning
        Repository, 1998, https://doi.org/10.24432/C50P49 (its test set; CC BY 4.0).

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
    stored = io.BytesIO(files("sfnn_pyro.data").joinpath("digits.npz").read_bytes())
    with np.load(stored) as arrays:
        grey = torch.from_numpy(arrays["images"]).to(torch.float32) / 16  # (1797, 8, 8)
        return grey, torch.from_numpy(arrays["labels"]).to(torch.int64)


def _provenance(grey: Tensor, split_seed: int) -> dict[str, str | int]:
    values = (grey * 16).to(torch.uint8).numpy().tobytes()
    return {
        "credit": CREDIT,
        "source_sha256": sha256(values),
        "split_seed": split_seed,
    }
