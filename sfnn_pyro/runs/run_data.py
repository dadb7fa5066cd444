"""The data of a run: by name or of one's own, as they are or anew in every epoch."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from sfnn_pyro.data import DATASET_NAMES, DataError, Dataset, Split
from sfnn_pyro.data.own import KINDS
from sfnn_pyro.data.own.contents import READERS, suffix_of
from sfnn_pyro.data.own.task import check_likelihood, is_binary
from sfnn_pyro.system.numbers import shown

EPOCH_SEED = 7_000_003


def own_path(text: str) -> Path:
    """The path that is given where the name of a data set could be.

    Raises:
        DataError: it looks like a name, of which there is no data set, or is empty.

    Example:
        >>> own_path("mnits")
        Traceback (most recent call last):
            ...
        sfnn_pyro.data.errors.DataError: no data set 'mnits': choose one of digits, ...
    """
    if not text.strip():
        raise DataError(f"data={text!r} is empty: name a data set, a file or a folder")
    path = Path(text)
    if "/" in text or suffix_of(path) in READERS or path.exists():
        return path
    raise DataError(
        f"no data set {shown(text)}: choose one of {', '.join(DATASET_NAMES)}; or give the path of "
        f"one of {', '.join(KINDS)}"
    )


def adapted(data: Dataset, likelihood: str, binarisation: str) -> Dataset:
    """A known data set under another likelihood, if one is given.

    Raises:
        DataError: its targets cannot be of that likelihood, or it cannot be binarised so.
    """
    name = f"the data set {data.name!r}"
    if likelihood:
        check_likelihood(data.train.y, likelihood, name)
        if likelihood == "bernoulli" and not is_binary(data.train.y):
            raise DataError(
                f"likelihood='bernoulli': the targets of {name} are grey, not 0 or 1; leave "
                "--likelihood out"
            )
        data = replace(data, likelihood=likelihood)
    if binarisation in ("once", "epoch") and data.fresh is None:
        raise DataError(
            f"binarise={binarisation!r}: {name} has no grey values to sample as 0 or 1; leave "
            "--binarise out"
        )
    if binarisation == "none" and data.fresh is not None:
        raise DataError(
            f"binarise='none': {name} is a task of zeros and ones; leave --binarise out"
        )
    return data


def training_data(
    data: Dataset, seed: int, binarisation: str, noise: float
) -> Split | Callable[[int], Split]:
    """The training data; of every epoch, from 0, where they are sampled or disturbed anew.

    Arguments:
        data: the data set.
        seed: of the training; it determines every epoch's data.
        binarisation: ``"epoch"`` to sample grey values anew in every epoch.
        noise: standard deviation of Gaussian noise on the inputs.

    Raises:
        DataError: there are no inputs to add noise to.
    """
    fresh = data.fresh if binarisation == "epoch" else None
    if fresh is None and not noise:
        return data.train
    if noise and not data.x_size:
        raise DataError(f"noise={noise}: there is no input to add it to; leave --noise out")

    def of_epoch(epoch: int) -> Split:
        generator = torch.Generator().manual_seed((seed * EPOCH_SEED + epoch) % 2**63)
        x, y = data.train.x, data.train.y
        if fresh is not None:
            sampled = fresh(generator)
            x, y = sampled.x.to(x), sampled.y.to(y)
        if noise:
            x = x + noise * torch.randn(x.shape, generator=generator, dtype=x.dtype).to(x)
        return Split(x, y)

    return of_epoch
