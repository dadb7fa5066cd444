"""The arguments of a step: its tensors, and all else as a key."""

import enum
from typing import Any

import torch
from torch import Tensor

from sfnn_pyro.recording.tracing import SEQUENTIAL, CannotRecord

_PLAIN = (int, float, complex, str, bytes, type(None), torch.dtype, torch.device, enum.Enum)


class Arguments:
    """The arguments of a call, taken apart.

    Raises:
        CannotRecord: an argument is neither a tensor nor a plain value, nor a list, tuple or
            dictionary of such.

    Example:
        >>> import torch
        >>> one = Arguments((torch.ones(3), 0.5), {"y": [torch.zeros(2)]})
        >>> len(one.tensors), one.key == Arguments((torch.ones(3), 0.6), {}).key
        (2, False)
    """

    def __init__(self, args: tuple, kwargs: dict[str, Any]) -> None:
        self.args, self.kwargs = args, kwargs
        self.tensors: list[Tensor] = []
        """Each once, in the order of the arguments."""
        self._numbers: dict[int, int] = {}
        self.key = (
            tuple(self._key(one, f"argument {number}") for number, one in enumerate(args, 1)),
            tuple((name, self._key(one, f"argument '{name}'")) for name, one in kwargs.items()),
        )

    def _key(self, value: Any, name: str) -> Any:
        if isinstance(value, Tensor):
            return self._key_of_tensor(value, name)
        if isinstance(value, _PLAIN):
            # A number that is not a number equals itself here.
            return type(value), repr(value) if value != value else value
        if isinstance(value, list | tuple):
            return type(value), tuple(self._key(one, name) for one in value)
        if isinstance(value, dict):
            keys = [self._key(key, name) for key in value]
            return type(value), tuple(keys), tuple(self._key(v, name) for v in value.values())
        raise CannotRecord(
            f"{name} of the model is a {type(value).__name__}, whose contents a recording would "
            "freeze: give tensors and numbers, or lists, tuples and dictionaries of them, "
            f"{SEQUENTIAL}"
        )

    def _key_of_tensor(self, value: Tensor, name: str) -> Any:
        if type(value) not in (Tensor, torch.nn.Parameter) or value.layout is not torch.strided:
            raise CannotRecord(
                f"{name} of the model is a {type(value).__name__} of layout {value.layout}: give "
                f"a dense torch.Tensor, {SEQUENTIAL}"
            )
        number = self._numbers.get(id(value))
        if number is not None:
            return number
        self._numbers[id(value)] = len(self.tensors)
        self.tensors.append(value)
        return shape_of(value)

    def with_tensors(self, tensors: list[Tensor]) -> tuple[tuple, dict[str, Any]]:
        """The same arguments with other tensors in the place of its own."""
        return self._swapped(self.args, tensors), self._swapped(self.kwargs, tensors)

    def _swapped(self, value: Any, tensors: list[Tensor]) -> Any:
        if isinstance(value, Tensor):
            return tensors[self._numbers[id(value)]]
        if isinstance(value, dict):
            same = {key: self._swapped(one, tensors) for key, one in value.items()}
            return same if type(value) is dict else type(value)(same)
        if isinstance(value, list | tuple):
            parts = [self._swapped(one, tensors) for one in value]
            return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
        return value


def shape_of(tensor: Tensor) -> tuple:
    """What a graph takes for granted of a tensor."""
    return (
        type(tensor),
        tensor.shape,
        tensor.stride(),
        tensor.dtype,
        tensor.device,
        tensor.requires_grad,
    )
