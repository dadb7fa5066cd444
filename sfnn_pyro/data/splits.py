"""What a loaded data set looks like, and the ways to cut one into parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sfnn_pyro.data.errors import DataError
from sfnn_pyro.system.arguments import check_tensor

LIKELIHOODS = ("bernoulli", "categorical", "gaussian")


@dataclass(frozen=True, eq=False)
class Split:
    """Inputs and targets, row by row.

    Arguments:
        x: inputs ``(N, dx)``, float32.
        y: targets ``(N, dy)``, float32; or class labels ``(N,)``, int64.

    Raises:
        DataError: the rows do not pair up, a shape or dtype is another, or a number is not
            finite.

    Example:
        >>> len(Split(torch.zeros(5, 3), torch.ones(5, 2)))
        5
    """

    x: Tensor
    y: Tensor

    def __post_init__(self) -> None:
        _check_matrix("x", self.x)
        check_tensor("y", self.y, DataError)
        if self.y.dtype != torch.int64 or self.y.dim() != 1:
            _check_matrix("y", self.y)
        if len(self.x) != len(self.y):
            raise DataError(
                f"x has {len(self.x)} rows and y {len(self.y)}: give each input one target"
            )

    def __len__(self) -> int:
        return len(self.x)

    def to(self, device: str) -> Split:
        """The same rows on a device."""
        return Split(self.x.to(device), self.y.to(device))

    def first(self, count: int) -> Split:
        """Its first rows; all of them where there are fewer."""
        return Split(self.x[:count], self.y[:count])


@dataclass(frozen=True, eq=False)
class Dataset:
    """Training, validation and test splits of one task, and how they came about.

    Arguments:
        name: one of ``DATASET_NAMES``.
        train, validation, test: the three splits, which share no image.
        likelihood: what P(y given h) should be: ``"bernoulli"``, ``"categorical"`` or
            ``"gaussian"``.
        x_shape, y_shape: ``(rows, columns)`` of ``x`` and ``y`` for drawing, or None where they are
            no image.
        provenance: seeds, checksums of the source files and split sizes; fit for JSON.
        side_by_side: whether pictures of x stand to the left of those of y, not above them.
        fresh: samples the training data anew from their grey values; None where there are none.

    Example:
        >>> from sfnn_pyro.data import load_dataset
        >>> digits = load_dataset("digits")
        >>> digits.x_size, digits.y_size, digits.likelihood
        (32, 32, 'bernoulli')
    """

    name: str
    train: Split
    validation: Split
    test: Split
    likelihood: str
    x_shape: tuple[int, int] | None
    y_shape: tuple[int, int] | None
    provenance: dict[str, str | int]
    side_by_side: bool = False
    fresh: Callable[[torch.Generator], Split] | None = None

    def __post_init__(self) -> None:
        if self.likelihood not in LIKELIHOODS:
            raise DataError(
                f"likelihood={self.likelihood!r} is unknown: choose one of {', '.join(LIKELIHOODS)}"
            )

    @property
    def x_size(self) -> int:
        """Number of inputs, ``dx``."""
        return self.train.x.shape[1]

    @property
    def y_size(self) -> int:
        """Number of targets, ``dy``; for class labels, the number of classes."""
        if self.likelihood == "categorical":
            parts = (self.train, self.validation, self.test)
            return 1 + max(int(part.y.max()) for part in parts if len(part))
        return self.train.y.shape[1]

    def to(self, device: str) -> Dataset:
        """The same data on a device."""
        parts = {name: getattr(self, name).to(device) for name in ("train", "validation", "test")}
        return replace(self, **parts)

    def with_training_rows(self, count: int) -> Dataset:
        """The same data with the first rows of the training split alone; all of them for 0.

        Example:
            >>> from sfnn_pyro.data import load_dataset
            >>> fewer = load_dataset("digits").with_training_rows(100)
            >>> len(fewer.train), len(fewer.fresh(torch.Generator()))
            (100, 100)
        """
        if not count:
            return self
        train, fresh = self.train.first(count), self.fresh
        return replace(
            self,
            train=train,
            provenance={**self.provenance, "train_size": len(train)},
            fresh=fresh and (lambda generator: fresh(generator).first(count)),
        )


def assemble(
    name: str,
    parts: Sequence[Split],
    likelihood: str,
    shapes: tuple[tuple[int, int] | None, tuple[int, int] | None],
    provenance: Mapping[str, str | int],
) -> Dataset:
    """A ``Dataset`` of training, validation and test parts, their sizes noted in ``provenance``."""
    train, validation, test = parts
    sizes = {
        "train_size": len(train),
        "validation_size": len(validation),
        "test_size": len(test),
    }
    return Dataset(name, train, validation, test, likelihood, *shapes, {**provenance, **sizes})


def seeded(name: str, seed: int) -> torch.Generator:
    """A CPU random generator for the argument ``name=seed``; ``DataError`` for a bad seed."""
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise DataError(f"{name}={seed!r} is no seed: give a whole number from 0 to 2**63 - 1")
    return torch.Generator().manual_seed(seed)


def partition(count: int, sizes: Sequence[int], generator: torch.Generator) -> list[Tensor]:
    """Disjoint random sets of indices below ``count``, one of each size, each in rising order.

    Example:
        >>> [len(part) for part in partition(10, (6, 3, 1), torch.Generator())]
        [6, 3, 1]
    """
    if sum(sizes) > count or min(sizes) < 0:
        raise DataError(f"{count} rows cannot be split into {list(sizes)}: ask for fewer")
    order = torch.randperm(count, generator=generator, device=generator.device)
    return [part.sort().values for part in order[: sum(sizes)].split(list(sizes))]


def _check_matrix(name: str, value: Tensor) -> None:
    check_tensor(name, value, DataError)
    if value.dim() != 2 or value.dtype != torch.float32:
        raise DataError(
            f"{name} is {value.dtype} of shape {tuple(value.shape)}: give float32 of shape (N, d)"
        )
    if not torch.isfinite(value).all():
        raise DataError(f"{name} holds NaN or infinity: leave those rows out")
