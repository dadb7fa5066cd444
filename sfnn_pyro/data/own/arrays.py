"""Readers of arrays: NumPy's ``.npy`` and ``.npz``, and safetensors."""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.lib import format as npy
from numpy.typing import NDArray

from sfnn_pyro.data.errors import DataError
from sfnn_pyro.system.memory import check_memory
from sfnn_pyro.system.numbers import shown

Array = NDArray[Any]

HEADERS: dict[tuple[int, int], Callable[..., tuple[tuple[int, ...], bool, np.dtype]]] = {
    (1, 0): npy.read_array_header_1_0,
    (2, 0): npy.read_array_header_2_0,
}
NUMBERS = "biuf"


def read_npy(contents: bytes, name: str) -> dict[str, Array]:
    """The array of a ``.npy`` file under the name ``"array"``; no object is ever unpickled."""
    return {"array": _array(contents, name)}


def read_npz(contents: bytes, name: str) -> dict[str, Array]:
    """The arrays of a ``.npz`` archive, compressed or not."""
    arrays = {}
    try:
        with zipfile.ZipFile(io.BytesIO(contents)) as archive:
            entries = archive.infolist()
            stated = sum(entry.file_size for entry in entries)
            check_memory(stated, name, "give a smaller file", DataError)
            for entry in entries:
                # A file may state any size: what is decompressed is stopped at it.
                with archive.open(entry) as stream:
                    raw = stream.read(entry.file_size + 1)
                if len(raw) != entry.file_size:
                    raise DataError(f"{name} is damaged: its parts are larger than {stated} bytes")
                key = entry.filename.removesuffix(".npy")
                if key in arrays:
                    raise DataError(
                        f"{name} holds two arrays {shown(key)}: give each a name of its own"
                    )
                arrays[key] = _array(raw, f"{name}: {key}")
    except DataError:
        raise
    except Exception as error:  # zipfile raises errors of many types on bytes that are no archive
        raise DataError(
            f"{name} is no NumPy archive ({_first(error)}): write it with numpy.savez"
        ) from error
    if not arrays:
        raise DataError(f"{name} holds no array: write it with numpy.savez")
    return arrays


def read_safetensors(contents: bytes, name: str) -> dict[str, Array]:
    """The arrays of a safetensors file; what NumPy has not, such as bfloat16, as float32."""
    try:
        from safetensors.torch import load
    except ImportError as error:
        raise DataError(
            f"{name}: the package safetensors is not installed: pip install safetensors"
        ) from error
    try:
        tensors = load(contents)
    except Exception as error:  # of its own type, a subclass of Exception
        raise DataError(
            f"{name} is no safetensors file ({_first(error)}): write it with safetensors"
        ) from error
    if not tensors:
        raise DataError(f"{name} holds no array")
    return {key: _numpy(tensor, f"{name}: {key}") for key, tensor in sorted(tensors.items())}


def _numpy(tensor: torch.Tensor, name: str) -> Array:
    if tensor.is_complex():
        raise DataError(f"{name} holds complex numbers: give real ones")
    if tensor.is_floating_point() and tensor.dtype not in (torch.float32, torch.float64):
        tensor = tensor.to(torch.float32)
    return tensor.numpy()


def _array(raw: bytes, name: str) -> Array:
    """An array whose header states exactly the bytes that follow it."""
    stream = io.BytesIO(raw)
    try:
        version = npy.read_magic(stream)
        if version not in HEADERS:
            raise ValueError(f"version {version} is unknown")
        shape, column_major, dtype = HEADERS[version](stream)
    except Exception as error:  # the header is a Python literal, read with errors of many types
        raise DataError(
            f"{name} is no NumPy array ({_first(error)}): write it with numpy.save"
        ) from error
    if dtype.kind not in NUMBERS:
        raise DataError(f"{name} holds {_kind(dtype)}: give an array of real numbers")
    rest = len(raw) - stream.tell()
    if math.prod(shape) * dtype.itemsize != rest or any(side < 0 for side in shape):
        raise DataError(
            f"{name} states the shape {shape} of {dtype} and holds {rest} bytes: "
            "write the file again"
        )
    flat = np.frombuffer(raw, dtype, offset=stream.tell())
    array = flat.reshape(shape, order="F" if column_major else "C")
    return array.astype(dtype.newbyteorder("="), copy=False)


def _kind(dtype: np.dtype) -> str:
    words = {"O": "Python objects", "c": "complex numbers", "U": "texts", "S": "texts"}
    return words.get(dtype.kind, f"values of the type {dtype}")


def _first(error: Exception) -> str:
    return str(error).partition("\n")[0][:200] or type(error).__name__
