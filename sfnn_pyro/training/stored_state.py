"""The check of a stored state before anything of it is loaded.

PyTorch's ``load_state_dict`` takes a momentum of any shape, and its fused optimizers then write
past the end of it: what comes from a file is compared with what the trainer has, field by field.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

FREE = ("lr", "params", "fused", "foreach")
"""Settings of a parameter group that the schedule or the device decides."""


class StateError(ValueError):
    """A stored state that is not one of this training; the message names the field."""


def stored_tensor(name: str, value: Any, like: Tensor) -> Tensor:
    """A copy of a stored tensor that has the shape and dtype of another, and finite values.

    Arguments:
        name: of the field, for the message.
        value: what is stored.
        like: the tensor whose place it takes; the copy lies on its device.

    Raises:
        StateError: it is no tensor, or one of another shape, dtype or layout.

    Example:
        >>> stored_tensor("momentum", torch.zeros(1), torch.zeros(2, 3))
        Traceback (most recent call last):
            ...
        sfnn_pyro.training.stored_state.StateError: momentum has shape (1,), expected (2, 3)
    """
    if not torch.is_tensor(value):
        raise StateError(f"{name} is {_kind(value)}, no tensor")
    if value.layout is not torch.strided or value.is_quantized or value.is_meta:
        raise StateError(f"{name} is no tensor of plain numbers")
    if value.shape != like.shape:
        raise StateError(f"{name} has shape {tuple(value.shape)}, expected {tuple(like.shape)}")
    if value.dtype != like.dtype:
        raise StateError(f"{name} is {value.dtype}, expected {like.dtype}")
    # A copy of its own: two fields of a file may be one piece of memory.
    copy = value.detach().clone(memory_format=torch.contiguous_format)
    if not copy.isfinite().all():
        raise StateError(f"{name} holds NaN or infinity")
    return copy.to(like.device)


def stored_tensors(name: str, values: Any, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies of a table of stored tensors, which must have exactly the names of another.

    Raises:
        StateError: a name is missing, unknown, or its tensor is another.
    """
    check_keys(name, values, like)
    return {key: stored_tensor(f"{name}[{key!r}]", values[key], like[key]) for key in like}


def stored_number(name: str, value: Any, kind: type, low: float, high: float) -> Any:
    """A stored number of exactly a type, in a range.

    Example:
        >>> stored_number("steps", -1, int, 0, 5)
        Traceback (most recent call last):
            ...
        sfnn_pyro.training.stored_state.StateError: steps=-1: expected int from 0 to 5
    """
    number: Any = value  # of whatever type, when it is compared
    if type(value) is not kind or not low <= number <= high:
        raise StateError(f"{name}={_shown(value)}: expected {kind.__name__} from {low} to {high}")
    return value


def check_keys(name: str, values: Any, expected: Any) -> None:
    """Refuses what is no table of exactly the expected names."""
    if not isinstance(values, dict):
        raise StateError(f"{name} is {_kind(values)}, no table")
    if set(values) != set(expected):
        raise StateError(
            f"{name} has the fields {_shown(list(values))}, expected {_shown(list(expected))}"
        )


def stored_optimizer(stored: Any, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """A state that an optimizer can load: the stored tensors, in the optimizer's own settings.

    Raises:
        StateError: a tensor does not fit its parameter, or a setting is another.
    """
    own = optimizer.state_dict()
    check_keys("optimizer", stored, own)
    groups = stored["param_groups"]
    if not isinstance(groups, list) or len(groups) != len(own["param_groups"]):
        raise StateError(f"optimizer: expected {len(own['param_groups'])} parameter groups")
    loaded = [
        _stored_group(f"optimizer.param_groups[{number}]", group, mine)
        for number, (group, mine) in enumerate(zip(groups, own["param_groups"], strict=True))
    ]
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    numbers = [number for group in own["param_groups"] for number in group["params"]]
    states = stored["state"]
    if not isinstance(states, dict) or not set(states) <= set(numbers):
        raise StateError("optimizer.state: expected a table by the number of the parameter")
    by_number = dict(zip(numbers, parameters, strict=True))
    # The kernels of fused optimizers look at no shape; all others do.
    read = _stored_slots if "fused" in optimizer.defaults else _other_slots
    state = {
        number: read(f"optimizer.state[{number}]", slots, by_number[number])
        for number, slots in states.items()
    }
    return {"state": state, "param_groups": loaded}


def stored_random_state(name: str, value: Any, like: Tensor) -> Tensor:
    """A copy of a stored random state of the size of another."""
    state = stored_tensor(name, value, like)
    generator = torch.Generator(device=like.device)
    try:
        generator.set_state(state)
    except RuntimeError as error:
        raise StateError(f"{name} is no state of a generator") from error
    return state


def checked_tree(name: str, value: Any) -> Any:
    """A copy of tables and lists of tensors and plain values, of which no number is NaN."""
    if isinstance(value, dict):
        return {key: checked_tree(f"{name}[{key!r}]", one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)([checked_tree(f"{name}[{i}]", one) for i, one in enumerate(value)])
    if torch.is_tensor(value):
        return stored_tensor(name, value, value)
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    raise StateError(f"{name} is {_shown(value)}")


def _other_slots(name: str, slots: Any, parameter: Tensor) -> Any:
    return checked_tree(name, slots)


def _stored_group(name: str, stored: Any, own: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(stored, dict) or "lr" not in stored:
        raise StateError(f"{name} is no table with a learning rate")
    if stored.get("params") != own["params"]:
        raise StateError(f"{name} holds other parameters")
    for key in own.keys() & stored.keys() - set(FREE):
        if not _same(stored[key], own[key]):
            raise StateError(f"{name}: {key} is {_shown(stored[key])}, expected {own[key]}")
    rate = stored["lr"]
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate < math.inf:
        raise StateError(f"{name}: lr is {_shown(rate)}, expected a number of at least 0")
    return {**own, "lr": float(rate)}


def _stored_slots(name: str, slots: Any, parameter: Tensor) -> dict[str, Any]:
    if not isinstance(slots, dict):
        raise StateError(f"{name} is {_kind(slots)}, no table")
    found: dict[str, Any] = {}
    for key, value in slots.items():
        field = f"{name}[{key!r}]"
        if key == "step":
            found[key] = _stored_count(field, value)
        elif value is None:
            found[key] = None
        else:
            found[key] = stored_tensor(field, value, parameter)
    return found


def _stored_count(name: str, value: Any) -> Any:
    if torch.is_tensor(value):
        return stored_tensor(name, value, torch.zeros((), dtype=torch.float32))
    return stored_number(name, value, int, 0, 2**53)


def _same(stored: Any, own: Any) -> bool:
    if isinstance(stored, Sequence) and isinstance(own, Sequence):
        return list(stored) == list(own)
    numbers = all(isinstance(one, int | float) for one in (stored, own))
    either = any(isinstance(one, bool) for one in (stored, own))
    if numbers and not either:  # 0 is as good as 0.0
        return bool(stored == own)
    return type(stored) is type(own) and bool(stored == own)


def _kind(value: Any) -> str:
    return f"a {type(value).__name__}"


def _shown(value: Any) -> str:
    if torch.is_tensor(value):
        return "a tensor"
    text = repr(value) if isinstance(value, bool | int | float | str | list) else _kind(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
