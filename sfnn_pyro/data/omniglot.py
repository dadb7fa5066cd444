"""Omniglot: completion of the lower half of a handwritten character."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sfnn_pyro.data.cache import read_source
from sfnn_pyro.data.errors import DataError
from sfnn_pyro.data.images import binarise, fresh_halves, halves
from sfnn_pyro.data.mat import parse_mat
from sfnn_pyro.data.sources import OMNIGLOT
from sfnn_pyro.data.splits import Dataset, assemble, partition, seeded

SIDE = 28
TRAIN, VALIDATION, TEST = 23_000, 1_345, 8_070


def omniglot_grey(split_seed: int = 0, root: Path | str | None = None) -> dict[str, Tensor]:
    """Omniglot's grey images, for an experiment that samples them anew in every epoch.

    Returns:
        ``{"train": (23000, 28, 28), "validation": (1345, 28, 28), "test": (8070, 28, 28)}``,
        float32 in [0, 1]; ``split_seed`` chooses those for validation.

    Raises:
        DataError: the file is missing or is not the standard one.
    """
    path, contents = read_source(OMNIGLOT, OMNIGLOT.files[0], root)
    arrays = parse_mat(contents, ["data", "testdata"], str(path))
    both = _images(arrays["data"], TRAIN + VALIDATION, str(path))
    test = _images(arrays["testdata"], TEST, str(path))
    train, validation = partition(len(both), (TRAIN, VALIDATION), seeded("split_seed", split_seed))
    return {"train": both[train], "validation": both[validation], "test": test}


def load_omniglot(
    binarisation_seed: int = 0, split_seed: int = 0, root: Path | str | None = None
) -> Dataset:
    """Complete the lower half of a character of Omniglot, 28 x 28, from its upper half.

    The version of ``chardata.mat``, in which importance weighted autoencoders are measured: 24,345
    training images, of which ``split_seed`` sets 1,345 aside for validation, and 8,070 test images.
    Every pixel is sampled once with its grey value as expectation.

    References:
        Lake, Salakhutdinov, Tenenbaum, *Human-level concept learning through probabilistic program
        induction*, Science 2015; Burda, Grosse, Salakhutdinov, *Importance Weighted Autoencoders*,
        ICLR 2016.

    Returns:
        a data set with ``x`` and ``y`` of shape ``(N, 392)``, drawn as 14 x 28.

    Raises:
        DataError: the file is missing or is not the standard one.
    """
    grey = omniglot_grey(split_seed, root)
    generator = seeded("binarisation_seed", binarisation_seed)
    parts = [halves(binarise(images, generator)) for images in grey.values()]
    file = OMNIGLOT.files[0]
    provenance: dict[str, str | int] = {
        f"{file.name}_git_blob": file.git_blob,
        "split_seed": split_seed,
        "binarisation_seed": binarisation_seed,
    }
    shape = (SIDE // 2, SIDE)
    data = assemble("omniglot", parts, "bernoulli", (shape, shape), provenance)
    return replace(data, fresh=fresh_halves(grey["train"]))


def _images(columns: NDArray[Any], count: int, file: str) -> Tensor:
    """``(count, 28, 28)``, of columns in which MATLAB stores images column by column."""
    # Written so that a NaN fails too.
    if columns.shape != (SIDE * SIDE, count) or not ((columns >= 0) & (columns <= 1)).all():
        raise DataError(
            f"{file} has images of shape {columns.shape} or values outside 0 to 1, not "
            f"{(SIDE * SIDE, count)}: fetch the file again"
        )
    rows = torch.from_numpy(columns.T.astype(np.float32))
    return rows.reshape(count, SIDE, SIDE).mT.contiguous()
