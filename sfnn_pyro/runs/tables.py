"""The reader of configurations: tables of JSON and TOML as dataclasses, with strict types."""

import json
from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, get_args, get_type_hints

from sfnn_pyro.system.extras import needed_for

T = TypeVar("T")


def read_table(kind: type[T], raw: Any, error: type[ValueError], where: str = "") -> T:
    """Reads a table of names and values as a dataclass, which may hold other dataclasses.

    Every key must be a field and every value of the field's type. A whole number is accepted for
    a float, a list for a tuple, and nothing else is converted.

    Arguments:
        kind: the dataclass.
        raw: what ``json`` or ``tomllib`` read.
        error: the type of the error that is raised.
        where: what the message says of the place, such as ``" in the configuration"``.

    Raises:
        MissingExtraError: pydantic, which the extra ``cli`` brings, is not installed.
        ValueError: of the given type; it names the key and the value, and says what was expected.

    Example:
        >>> from sfnn_pyro.training import Schedule
        >>> read_table(Schedule, {"epochs": 3, "learning_rate": 1}, ValueError).learning_rate
        1.0
        >>> read_table(Schedule, {"epochs": "3"}, ValueError)
        Traceback (most recent call last):
            ...
        ValueError: epochs='3': expected int
    """
    with needed_for("reading a configuration"):
        from pydantic import TypeAdapter, ValidationError
    _check_keys(kind, raw, error)
    try:
        # In JSON, unlike in Python, pydantic's strict mode takes a list for a tuple.
        return TypeAdapter(kind).validate_json(json.dumps(raw, default=_unknown), strict=True)
    except ValidationError as failure:
        found = sorted(failure.errors(), key=lambda one: one["type"] == "missing")[0]
        raise error(_message(kind, raw, found, where)) from failure


def check_known(raw: Iterable[str], known: Iterable[str], error: type[ValueError]) -> None:
    """Refuses a key that is not among the known ones."""
    names = list(known)
    for name in raw:
        if name not in names:
            raise error(f"unknown key {name!r}; known: {', '.join(names)}")


def _check_keys(kind: Any, raw: Any, error: type[ValueError]) -> None:
    if not isinstance(raw, dict):
        return
    types = _types(kind)
    check_known(raw, types, error)
    for name, value in raw.items():
        if is_dataclass(types[name]):
            _check_keys(types[name], value, error)


def _types(kind: Any) -> dict[str, Any]:
    """The types of a dataclass's fields, of which some modules have the names alone."""
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in fields(kind)}


def _message(kind: Any, raw: Any, found: Any, where: str) -> str:
    if found["type"] == "value_error":  # the dataclass refused the value in its own words
        return str(found["ctx"]["error"])
    name = ""
    for part in found["loc"]:
        if is_dataclass(kind):
            name, kind = part, _types(kind)[part]
        elif is_dataclass(item := get_args(kind)[0]):
            kind = item
        else:
            break
        if found["type"] == "missing" and part == found["loc"][-1]:
            return f"lacks {name!r}"
        raw = raw[part]
    if is_dataclass(kind):
        return f"{name or 'the whole'}{where} is not a table of names and values"
    expected = f"a list of {get_args(kind)[0].__name__}" if get_args(kind) else kind.__name__
    return f"{name}={raw!r}{where}: expected {expected}"


def _unknown(value: Any) -> dict:
    """What stands for a value that JSON has not, such as a date of TOML: of no field's type."""
    return {}
