"""What the two face data sets share: the task, and the split by person."""

from __future__ import annotations

import torch
from torch import Tensor

from sfnn_pyro.data.splits import Dataset, Split, assemble, partition, seeded

SHAPE = (48, 48)


def expressions(images: Tensor, person: Tensor) -> Split:
    """The task of section 3: from the mean of a person's images, predict each of them.

    Arguments:
        images: ``(N, rows, columns)``, float32.
        person: ``(N,)``, who is on each.

    Returns:
        a split with ``x`` and ``y`` of shape ``(N, rows * columns)``; ``x`` has one distinct row
        per person.

    Example:
        >>> images = torch.tensor([1.0, 3.0, 5.0]).reshape(3, 1, 1)
        >>> expressions(images, torch.tensor([7, 7, 8])).x.flatten()
        tensor([2., 2., 5.])
    """
    flat = images.flatten(1)
    _, who, count = person.unique(return_inverse=True, return_counts=True)
    sums = flat.new_zeros(len(count), flat.shape[1], dtype=torch.float64)
    means = sums.index_add_(0, who, flat.double()) / count[:, None]
    return Split(means.to(torch.float32)[who], flat)


def by_person(
    name: str,
    images: Tensor,
    person: Tensor,
    sizes: tuple[int, int, int],
    split_seed: int,
    provenance: dict[str, str | int],
) -> Dataset:
    """A data set whose training, validation and test people are ``sizes`` different ones.

    Arguments:
        name: of the data set.
        images: ``(N, 48, 48)``, float32 in [0, 1].
        person: ``(N,)``, who is on each.
        sizes: number of people in each split.
        split_seed: of the choice of people.
        provenance: to which the seed and each split's people are added.
    """
    people = person.unique()
    chosen = [
        people[part] for part in partition(len(people), sizes, seeded("split_seed", split_seed))
    ]
    rows = [torch.isin(person, part) for part in chosen]
    parts = [expressions(images[mask], person[mask]) for mask in rows]
    named = zip(("train_people", "validation_people", "test_people"), chosen, strict=True)
    lists = {key: " ".join(map(str, part.tolist())) for key, part in named}
    noted = {**provenance, "split_seed": split_seed, **lists}
    return assemble(name, parts, "gaussian", (SHAPE, SHAPE), noted)
