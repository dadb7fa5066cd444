"""Checks of the type of what a program gives, so that the first mistake says how it is mended."""

import os
from pathlib import Path
from typing import Any

import torch

from sfnn_pyro.system.numbers import shown


def check_tensor(name: str, value: Any, error: type[ValueError] = ValueError) -> None:
    """Refuses what is no tensor, and says how it becomes one.

    Example:
        >>> check_tensor("x", [1.0])
        Traceback (most recent call last):
            ...
        ValueError: x is a list: convert it with torch.as_tensor(x)
    """
    if torch.is_tensor(value):
        return
    kind = type(value)
    word = name if name.isidentifier() else "array"
    if kind.__module__ == "numpy":
        raise error(f"{name} is a NumPy {kind.__name__}: convert it with torch.from_numpy({word})")
    if isinstance(value, list | tuple):
        raise error(f"{name} is a {kind.__name__}: convert it with torch.as_tensor({word})")
    raise error(f"{name} is {described(value)}: give a tensor")


def check_object(
    name: str, value: Any, kind: type, advice: str, error: type[ValueError] = ValueError
) -> None:
    """Refuses what is no object of a class, such as the class itself.

    Example:
        >>> check_object("path", Path, Path, "give Path(...)")
        Traceback (most recent call last):
            ...
        ValueError: path is the class Path: give Path(...)
    """
    if not isinstance(value, kind):
        raise error(f"{name} is {described(value)}: {advice}")


def given_path(name: str, value: Any, error: type[ValueError] = ValueError) -> Path:
    """The path that an argument names; an empty one would be the current folder.

    Example:
        >>> given_path("folder", "")
        Traceback (most recent call last):
            ...
        ValueError: folder='' is an empty path: name a file or folder; the current one is '.'
    """
    if not isinstance(value, str | os.PathLike):
        raise error(f"{name} is {described(value)}: give a path, as a str or a pathlib.Path")
    if isinstance(value, str) and not value.strip():
        raise error(
            f"{name}={value!r} is an empty path: name a file or folder; the current one is '.'"
        )
    return Path(value)


def described(value: Any) -> str:
    """What a value of a wrong type is, for a message.

    Example:
        >>> described(None), described(3), described(Path), described({})
        ('None', '3', 'the class Path', 'a dict')
    """
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if value is None or isinstance(value, str | int | float):
        return shown(value)
    return f"a {type(value).__name__}"
