"""Passes over a layer of units in C++, for steps that are compiled: draw, density, and gradients.

They are compiled when a step first is, by the compiler that this needs anyway, and kept in
PyTorch's cache. They read the logits once and write nothing but their result; the random bits stay
in the processor's cache. Without them a compiled step does what one that is not compiled does.
"""

import ctypes
from pathlib import Path
from typing import Any

import torch
from torch import Size, Tensor

from sfnn_pyro.distributions import random_bits

_library: Any = None

_DTYPES = {torch.float32: 0, torch.bfloat16: 1}
_FLAGS = ("-mprefer-vector-width=512", "-ffp-contract=fast", "-fno-math-errno")


def load() -> None:
    """Compiles it, once in the life of PyTorch's cache; raises whatever the compiler does."""
    global _library
    if _library is not None:
        return
    from torch._inductor import config
    from torch._inductor.codecache import CppCodeCache

    source = Path(__file__).with_suffix(".cpp").read_text(encoding="utf-8")
    # PyTorch's headers, which are not used here, take longer to compile than all of this.
    headers = "cpp_cache_precompile_headers"
    with config.patch({headers: False} if hasattr(config, headers) else {}):
        library = CppCodeCache.load(source, device_type="cpu", extra_flags=_FLAGS)
    pointer, whole = ctypes.c_void_p, ctypes.c_int64
    library.sfnn_draw.argtypes = [*[pointer, whole] * 2, whole, whole, pointer, whole, whole]
    library.sfnn_draw.restype = whole
    library.sfnn_settle.argtypes = [*[pointer, whole] * 2, pointer]
    library.sfnn_settle.restype = None
    library.sfnn_log_prob.argtypes = [*[pointer, whole, whole] * 2, pointer, *[whole] * 3]
    library.sfnn_log_prob.restype = whole
    library.sfnn_pull.argtypes = [*[pointer, whole, whole] * 2, pointer, pointer, *[whole] * 3]
    library.sfnn_pull.restype = None
    library.sfnn_slope.argtypes = [*[pointer, whole] * 2, pointer, whole, whole]
    library.sfnn_slope.restype = None
    _library = library


def has_draw(logits: Tensor, shape: Size) -> bool:
    """Whether it is there, and has the draws of these logits."""
    return _library is not None and _fits(logits) and _ends(logits.shape, shape)


def _fits(tensor: Tensor) -> bool:
    plain = tensor.device.type == "cpu" and tensor.is_contiguous()
    return plain and tensor.dtype in _DTYPES and tensor.numel() > 0


def _ends(one: Size, other: Size) -> bool:
    return len(one) <= len(other) and other[len(other) - len(one) :] == one


def draw(logits: Tensor, shape: Size) -> Tensor:
    """Draws 0 or 1 with the sigmoid's probabilities: from the numbers of ``random_bits``.

    Arguments:
        logits: float32 or bfloat16, contiguous, of a shape that ends ``shape``.
        shape: shape of the draw.

    Returns:
        A tensor of the type of the logits.
    """
    count = shape.numel()
    out = torch.empty(shape, dtype=logits.dtype)
    seeds = random_bits.seeds_for(count)
    where = logits.data_ptr(), _DTYPES[logits.dtype], out.data_ptr(), logits.numel()
    undecided = _library.sfnn_draw(
        *where,
        count,
        random_bits.part_of(count),
        seeds.data_ptr(),
        len(seeds),
        torch.get_num_threads(),
    )
    if undecided:
        fractions = torch.rand(undecided, dtype=torch.float32)
        _library.sfnn_settle(*where, fractions.data_ptr())
    return out


def has_rows(logits: Tensor, value: Tensor) -> bool:
    """Whether it is there, and has the log-probabilities and gradients of these values."""
    if _library is None or not (_fits(logits) and _fits(value) and logits.dim()):
        return False
    return _ends(value.shape, logits.shape) or _ends(logits.shape, value.shape)


def log_prob(logits: Tensor, value: Tensor) -> tuple[Tensor, bool]:
    """Log-probabilities in nats, summed over the last dimension; and whether one of them is NaN.

    Arguments:
        logits: ``(..., n)``, float32 or bfloat16, contiguous; its shape ends that of the values,
            or the other way round.
        value: ``(..., n)`` of zeros and ones.
    """
    rows, shape = _rows(logits, value)
    sums = torch.empty(shape[:-1], dtype=torch.float32)
    count, n = sums.numel(), shape[-1]
    bad = _library.sfnn_log_prob(*rows, sums.data_ptr(), count, n, torch.get_num_threads())
    return sums, bool(bad)


def _rows(logits: Tensor, value: Tensor) -> tuple[list[int], Size]:
    shape = logits.shape if logits.dim() >= value.dim() else value.shape
    return [
        number
        for one in (logits, value)
        for number in (one.data_ptr(), _DTYPES[one.dtype], one.numel() // shape[-1])
    ], shape


def pull(logits: Tensor, value: Tensor, weight: Tensor) -> Tensor:
    """The derivative of weighted log-probabilities to the logits, weight * (value - sigmoid).

    Arguments:
        logits: as in ``log_prob``.
        value: as in ``log_prob``.
        weight: float32, contiguous, of the shape of the log-probabilities.

    Returns:
        A tensor of the type of the logits.
    """
    rows, shape = _rows(logits, value)
    out = torch.empty(shape, dtype=logits.dtype)
    sizes = weight.numel(), shape[-1], torch.get_num_threads()
    _library.sfnn_pull(*rows, weight.data_ptr(), out.data_ptr(), *sizes)
    return out


def has_slope(grad: Tensor, logits: Tensor) -> bool:
    """Whether it is there, and has the slopes of these logits."""
    return _library is not None and _fits(grad) and _fits(logits) and grad.shape == logits.shape


def slope(grad: Tensor, logits: Tensor) -> Tensor:
    """A gradient times the sigmoid's derivative.

    Arguments:
        grad: float32 or bfloat16, contiguous.
        logits: the same, of the same shape.

    Returns:
        A tensor of the type of the logits.
    """
    out = torch.empty_like(logits)
    _library.sfnn_slope(
        grad.data_ptr(),
        _DTYPES[grad.dtype],
        logits.data_ptr(),
        _DTYPES[logits.dtype],
        out.data_ptr(),
        logits.numel(),
        torch.get_num_threads(),
    )
    return out
