"""The Python values that a program could depend on, and whether they are still the same.

A recording holds every number that the program reads from Python: its attributes, closures,
defaults and globals. They are found once, and looked at before every replay.
"""

import enum
import functools
import types
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sfnn_pyro.recording.places import is_library
from sfnn_pyro.recording.tracing import SEQUENTIAL, CannotRecord

PLAIN = (
    int,
    float,
    complex,
    str,
    bytes,
    type(None),
    torch.dtype,
    torch.device,
    enum.Enum,
    range,
    slice,
)
"""Types whose values are compared; ``bool`` is an ``int``, ``torch.Size`` a tuple of them."""

MOST = 50_000
"""Values of one program that are watched."""

MOST_BYTES = 2**24
"""Of its NumPy arrays, which are compared as a whole."""

_OPAQUE = (types.ModuleType, torch.Generator)
_MISSING = object()


class Watched:
    """Values reachable from some roots.

    Raises:
        CannotRecord: there are more than can be looked at before every step.

    Example:
        >>> from types import SimpleNamespace
        >>> model, watched = SimpleNamespace(rate=0.1), Watched()
        >>> watched.add("model", model)
        >>> model.rate = 0.2
        >>> watched.changed()
        'model.rate'
    """

    def __init__(self) -> None:
        self.tensors: dict[int, tuple[Any, Any, str]] = {}
        """By identity, where a tensor was found: what holds it, under which key, in words."""
        self.described: dict[str, Any] = {}
        """Every value that can be compared, by its path."""
        self._seen: dict[int, Any] = {}
        self._places: list[tuple[Any, Any, Any, str]] = []
        self._lengths: list[tuple[Any, int, str]] = []
        self._arrays: list[tuple[Any, Any, str]] = []

    def add(self, path: str, value: Any) -> None:
        """Watches everything that can be reached from a value."""
        pending = deque([(path, value)])
        while pending:
            path, value = pending.popleft()
            if isinstance(value, PLAIN):
                self.described[path] = type(value), value
            if isinstance(value, (*PLAIN, Tensor, *_OPAQUE)) or id(value) in self._seen:
                continue
            self._seen[id(value)] = value
            self.described[path] = type(value), _summary(value)
            if isinstance(value, np.ndarray):
                self._arrays.append((value, value.copy(), path))
                if sum(one.nbytes for one, *_ in self._arrays) > MOST_BYTES:
                    raise CannotRecord(
                        f"{path}: the NumPy arrays that the model or guide holds are too large to "
                        f"compare before every step: make them tensors, {SEQUENTIAL}"
                    )
                continue
            for holder, key, one, name in _parts(value, path):
                if isinstance(one, Tensor):
                    self.tensors.setdefault(id(one), (holder, key, name))
                else:
                    self._places.append((holder, key, one, name))
                    pending.append((name, one))
            held = getattr(value, "__dict__", None)
            if isinstance(value, list | dict | set | deque):
                self._lengths.append((value, len(value), path))
            elif isinstance(held, dict) and not is_library(type(value).__module__):
                # A new attribute may stand before one of the class.
                self._lengths.append((held, len(held), path))
            if len(self._places) > MOST:
                raise CannotRecord(
                    f"{path}: the model or guide holds more than {MOST:,} values, too many to "
                    f"look at before every step: hold data elsewhere, {SEQUENTIAL}"
                )

    def attributes(self, path: str, owner: Any, names: list[str]) -> None:
        """Watches some attributes of an object, and not the object."""
        for name in names:
            value = vars(owner)[name]
            self._places.append((vars(owner), name, value, f"{path}.{name}"))
            self.add(f"{path}.{name}", value)

    def changed(self) -> str | None:
        """Where a value is another than it was, in words; None if all are as they were."""
        for holder, key, value, path in self._places:
            now = _at(holder, key)
            if now is not value and not _same(now, value):
                return path
        for holder, length, path in self._lengths:
            if len(holder) != length:
                return path
        for array, before, path in self._arrays:
            same = array.dtype == before.dtype and array.shape == before.shape
            if not (same and array.tobytes() == before.tobytes()):
                return path
        return None

    def difference(self, other: "Watched") -> str | None:
        """Where another walk from the same roots found another value, in words."""
        for path in dict.fromkeys([*self.described, *other.described]):
            one, two = (watched.described.get(path) for watched in (self, other))
            if one != two and not (one and two and one[1] != one[1] and two[1] != two[1]):
                return path
        return None

    def holds(self, tensor: Tensor) -> bool:
        """Whether a tensor is still where it was found."""
        holder, key, _ = self.tensors[id(tensor)]
        return _at(holder, key) is tensor


def _summary(value: Any) -> Any:
    """What is compared of a value that holds others: how many, or the code of a function."""
    if isinstance(value, types.FunctionType):
        return value.__code__
    if isinstance(value, np.ndarray):
        return value.shape, value.tobytes()
    return len(value) if isinstance(value, list | tuple | dict | set | deque) else None


def _at(holder: Any, key: Any) -> Any:
    if isinstance(holder, dict):
        return holder.get(key, _MISSING)
    if isinstance(holder, types.CellType):
        try:
            return holder.cell_contents
        except ValueError:  # it is empty
            return _MISSING
    if isinstance(holder, list | deque):
        return holder[key] if key < len(holder) else _MISSING
    return getattr(holder, key, _MISSING)


def _same(now: Any, value: Any) -> bool:
    if type(now) is not type(value) or not isinstance(value, PLAIN):
        return False
    return now == value


def _parts(value: Any, path: str) -> Iterator[tuple[Any, Any, Any, str]]:
    """What a value holds: the holder that can change, the key, what is there, and its name."""
    if isinstance(value, dict):
        # A copy, as looking at a module may add to its dictionaries.
        for key, one in list(value.items()):
            yield value, key, one, f"{path}[{key!r}]"
    elif isinstance(value, list | deque):
        for number, one in enumerate(value):
            yield value, number, one, f"{path}[{number}]"
    elif isinstance(value, tuple | set | frozenset):
        for number, one in enumerate(value):
            yield {0: one}, 0, one, f"{path}[{number}]"
    elif isinstance(value, types.MethodType):
        yield {0: value.__self__}, 0, value.__self__, path
        yield {0: value.__func__}, 0, value.__func__, f"{path}.{value.__func__.__name__}"
    elif isinstance(value, functools.partial):
        held = {"func": value.func, "args": value.args, "keywords": value.keywords}
        for key, one in held.items():
            yield held, key, one, f"{path}.{key}"
    elif isinstance(value, types.FunctionType):
        yield from _parts_of_function(value, path)
    elif isinstance(value, type):
        for kind in value.__mro__:
            if not is_library(kind.__module__):
                for key, one in list(vars(kind).items()):
                    one = one.fget if isinstance(one, property) else one
                    one = one.__func__ if isinstance(one, staticmethod | classmethod) else one
                    if not key.startswith("__") or isinstance(one, types.FunctionType):
                        holder = kind if one is vars(kind)[key] else {key: one}
                        yield holder, key, one, f"{kind.__name__}.{key}"
    else:
        yield from _parts_of_object(value, path)


def _parts_of_object(value: Any, path: str) -> Iterator[tuple[Any, Any, Any, str]]:
    kind = type(value)
    if not is_library(kind.__module__):
        yield {0: kind}, 0, kind, kind.__name__
    held = getattr(value, "__dict__", None)
    if isinstance(held, Mapping) and not isinstance(value, torch.optim.Optimizer):
        for key, one in list(held.items()):
            inner = key in ("_parameters", "_buffers", "_modules")
            yield held, key, one, path if inner else f"{path}.{key}"
    for owner in kind.__mro__:
        slots = vars(owner).get("__slots__", ())
        for key in (slots,) if isinstance(slots, str) else slots:
            if not key.startswith("__") and not is_library(owner.__module__):
                one = getattr(value, key, _MISSING)
                if one is not _MISSING:
                    yield value, key, one, f"{path}.{key}"


def _parts_of_function(function: Any, path: str) -> Iterator[tuple[Any, Any, Any, str]]:
    if is_library(function.__module__):
        # What a library's decorator stands around is the user's all the same.
        for cell in function.__closure__ or ():
            one = _at(cell, None)
            if callable(one):
                yield cell, None, one, path
        return
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        yield cell, None, _at(cell, None), f"{name} (of {function.__name__})"
    for key in ("__defaults__", "__kwdefaults__"):
        yield function, key, getattr(function, key), f"{path}.{key}"
    names = _names(function.__code__)
    for name in names:
        if name not in function.__globals__:
            continue
        one = function.__globals__[name]
        yield function.__globals__, name, one, name
        if isinstance(one, types.ModuleType) and not is_library(one.__name__):
            for key in names:
                if key in vars(one):
                    yield vars(one), key, vars(one)[key], f"{name}.{key}"


def _names(code: types.CodeType) -> list[str]:
    """The names of globals and attributes in a function and those within it."""
    inner = [one for one in code.co_consts if isinstance(one, types.CodeType)]
    return list(dict.fromkeys([*code.co_names, *(n for one in inner for n in _names(one))]))
