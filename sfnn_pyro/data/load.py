"""Data sets by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sfnn_pyro.data.digits import load_digits_classification, load_digits_completion
from sfnn_pyro.data.errors import DataError
from sfnn_pyro.data.mnist import (
    load_fashion_classification,
    load_fashion_completion,
    load_mnist_classification,
    load_mnist_completion,
)
from sfnn_pyro.data.olivetti import load_olivetti
from sfnn_pyro.data.omniglot import load_omniglot
from sfnn_pyro.data.splits import Dataset
from sfnn_pyro.data.tfd import load_tfd
from sfnn_pyro.system.numbers import shown

Loader = Callable[[int, int, Path | str | None], Dataset]

_LOADERS: dict[str, Loader] = {
    "digits": lambda seed, split_seed, root: load_digits_completion(seed, split_seed),
    "digits-classification": lambda seed, split_seed, root: load_digits_classification(split_seed),
    "mnist": lambda seed, split_seed, root: load_mnist_completion(seed, root),
    "mnist-classification": lambda seed, split_seed, root: load_mnist_classification(root),
    "fashion-mnist": lambda seed, split_seed, root: load_fashion_completion(seed, root),
    "fashion-mnist-classification": lambda seed, split_seed, root: load_fashion_classification(
        root
    ),
    "omniglot": lambda seed, split_seed, root: load_omniglot(seed, split_seed, root),
    "olivetti": lambda seed, split_seed, root: load_olivetti(split_seed, root),
    "tfd": lambda seed, split_seed, root: load_tfd(split_seed, root),
}
DATASET_NAMES: tuple[str, ...] = tuple(_LOADERS)


def load_dataset(
    name: str,
    *,
    binarisation_seed: int = 0,
    split_seed: int = 0,
    root: Path | str | None = None,
) -> Dataset:
    """Load a data set by name, from files that are already on this machine.

    Arguments:
        name: one of ``DATASET_NAMES``.
        binarisation_seed: of the sampling of grey pixels to 0 and 1; used by the completions of
            digits, MNIST, Fashion-MNIST and Omniglot.
        split_seed: of the choice of test and validation data; those of MNIST and Fashion-MNIST are
            fixed.
        root: the folder to look in, instead of ``SFNN_DATA`` and the user's cache.

    Raises:
        DataError: the name is unknown, a seed is out of range, or a file is missing or damaged;
            nothing is ever downloaded (see ``download``).

    Example:
        >>> digits = load_dataset("digits", binarisation_seed=1)
        >>> len(digits.train), digits.x_shape, digits.provenance["binarisation_seed"]
        (1197, (4, 8), 1)
    """
    if not isinstance(name, str) or name not in _LOADERS:
        raise DataError(f"no data set {shown(name)}: choose one of {', '.join(DATASET_NAMES)}")
    return _LOADERS[name](binarisation_seed, split_seed, root)
