"""Operations on images: sampling to black and white, halving, centring, reducing."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from sfnn_pyro.data.errors import DataError
from sfnn_pyro.data.splits import Split


def binarise(grey: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Sample every pixel once, as 0 or 1, with its grey value as expectation.

    Uniform numbers are compared with the grey values, rather than ``torch.bernoulli`` called,
    so that one seed gives one result on every build of PyTorch for CPU. Call it once per
    epoch on ``mnist_grey()`` to train on fresh samples.

    Arguments:
        grey: any shape; uint8 (0 to 255), or floats that are probabilities already.
        generator: source of the randomness, on the device of ``grey``.

    Returns:
        float32 zeros and ones of the same shape.

    Raises:
        DataError: the dtype is another, or a probability lies outside [0, 1].

    Example:
        >>> binarise(torch.tensor([0, 255, 0], dtype=torch.uint8))
        tensor([0., 1., 0.])
    """
    probability = _probability(grey)
    # The dtype is named, since a changed default would change the samples.
    uniform = torch.rand(grey.shape, generator=generator, device=grey.device, dtype=torch.float32)
    return uniform.lt_(probability)


def _probability(grey: Tensor) -> Tensor:
    if grey.dtype == torch.uint8:
        return grey.to(torch.float32) / 255
    if not grey.dtype.is_floating_point:
        raise DataError(f"grey is {grey.dtype}: give uint8 grey values or float probabilities")
    # Written so that a NaN fails too.
    if not ((grey >= 0) & (grey <= 1)).all():
        raise DataError("grey has a probability outside [0, 1]: divide by the largest grey value")
    return grey


def halves(images: Tensor) -> Split:
    """The completion task: upper half of every image as input, lower half as target.

    Arguments:
        images: ``(N, rows, columns)``, an even number of rows.

    Returns:
        a split with ``x`` and ``y`` of shape ``(N, rows * columns / 2)``; ``torch.cat([x, y], 1)``
        is the images again, flattened.

    Example:
        >>> halves(torch.arange(4.0).reshape(1, 2, 2)).y
        tensor([[2., 3.]])
    """
    rows = images.shape[1]
    if rows % 2:
        raise DataError(f"images of {rows} rows have no half: crop or pad them by one row")
    upper, lower = images.split(rows // 2, dim=1)
    return Split(upper.flatten(1), lower.flatten(1))


def fresh_halves(grey: Tensor) -> Callable[[torch.Generator], Split]:
    """The completion task of grey images, sampled to black and white anew at every call.

    Arguments:
        grey: ``(N, rows, columns)``, of which ``binarise`` is taken.

    Example:
        >>> fresh_halves(torch.ones(5, 4, 3))(torch.Generator()).x.shape
        torch.Size([5, 6])
    """
    return lambda generator: halves(binarise(grey, generator))


def centred(scaled: list[Tensor]) -> list[Tensor]:
    """Flatten images of each split and take the first split's pixel means from all of them."""
    flat = [images.flatten(1) for images in scaled]
    mean = flat[0].mean(dim=0, dtype=torch.float64).to(torch.float32)
    return [images - mean for images in flat]


def reduced(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize images with PyTorch's anti-aliased bilinear filter, which keeps to their range.

    Arguments:
        images: ``(N, rows, columns)``, float.
        size: ``(rows, columns)`` wanted.

    Example:
        >>> reduced(torch.ones(2, 64, 64), (48, 48)).shape
        torch.Size([2, 48, 48])
    """
    resized = interpolate(
        images[:, None], size=size, mode="bilinear", align_corners=False, antialias=True
    )
    # Rounding may carry a weighted mean just past the largest grey value.
    return resized[:, 0].clamp(images.min(), images.max())
