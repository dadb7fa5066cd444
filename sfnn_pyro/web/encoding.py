"""Networks as half-precision numbers, beside a description that says how to read them."""

import zlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

LARGEST_HALF = 65504.0


def encode_tensors(tensors: Iterable[Tensor], what: str) -> bytes:
    """Tensors one after another as IEEE half-precision numbers, little-endian.

    Arguments:
        tensors: of any shape, written row by row.
        what: named in an error.

    Raises:
        ValueError: a number is not finite, or too large for half precision.

    Example:
        >>> encode_tensors([torch.tensor([1.0, -2.0])], "an example").hex()
        '003c00c0'
    """
    flat = torch.cat([tensor.detach().cpu().flatten().float() for tensor in tensors])
    worst = flat.abs().max().item() if len(flat) else 0.0
    if not worst <= LARGEST_HALF:
        raise ValueError(
            f"{what} holds {worst:g}, beyond half precision's {LARGEST_HALF:g}: the training "
            "diverged; train again with a smaller learning rate"
        )
    return flat.numpy().astype("<f2").tobytes()


def decode_tensors(part: Mapping[str, Any], payload: bytes) -> dict[str, Tensor]:
    """The tensors of an exported part, in single precision: what the page computes with.

    Arguments:
        part: an entry of ``network.json`` that lists ``tensors``.
        payload: the bytes of its file.

    Example:
        >>> part = {"tensors": [["a", [2]]]}
        >>> decode_tensors(part, encode_tensors([torch.tensor([1.0, -2.0])], "an example"))
        {'a': tensor([ 1., -2.])}
    """
    values = torch.from_numpy(np.frombuffer(payload, "<f2").astype(np.float32))
    sizes = [int(np.prod(shape)) for _, shape in part["tensors"]]
    pieces = values.split(sizes)
    return {
        name: piece.reshape(shape)
        for (name, shape), piece in zip(part["tensors"], pieces, strict=True)
    }


def describe_file(name: str, payload: bytes) -> dict[str, Any]:
    """What the page checks a file by before it uses it."""
    return {"file": name, "bytes": len(payload), "crc32": zlib.crc32(payload)}
