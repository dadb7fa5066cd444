"""Configurations as TOML that a person writes: one flat table, with the keys of the options."""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from sfnn_pyro.data import OwnData
from sfnn_pyro.runs.choices import RunError
from sfnn_pyro.runs.configuration import RunConfig, proposal_for
from sfnn_pyro.runs.tables import check_known, read_table
from sfnn_pyro.system.regular_files import read_regular
from sfnn_pyro.training import Schedule

LIMIT = 2**20
"""Bytes of a configuration file."""

PARTS: dict[str, Any] = {"schedule": Schedule, "own": OwnData}
"""Parts of a configuration whose keys stand beside the others."""


def read_config_file(path: Path) -> dict[str, Any]:
    """The keys and values of a TOML file.

    Raises:
        RunError: it cannot be read, is no TOML, or has an unknown key.
    """
    try:
        table = tomllib.loads(read_regular(path, LIMIT).decode("utf-8-sig"))
        check_known(table, _keys(), RunError)
    except OSError as error:
        raise RunError(
            f"{path} cannot be read ({error.strerror or error}): give a .toml file"
        ) from error
    except RunError as error:
        raise RunError(f"{path}: {error}") from error
    except (ValueError, RecursionError) as error:
        first = str(error).partition("\n")[0]
        raise RunError(f"{path} is no TOML ({first}): give lines such as epochs = 10") from error
    return table


def make_config(table: Mapping[str, Any]) -> RunConfig:
    """The configuration of a flat table; what it has not is as by default.

    Raises:
        RunError: a key is unknown, or a value is of another type, out of range or at odds with
            another.

    Example:
        >>> config = make_config({"epochs": 3, "estimator": "rws"})
        >>> config.schedule.epochs, config.proposal
        (3, 'recognition')
    """
    check_known(table, _keys(), RunError)
    nested: dict[str, Any] = {name: {} for name in PARTS}
    for key, value in table.items():
        part = next((name for name, kind in PARTS.items() if key in _names(kind)), None)
        (nested if part is None else nested[part])[key] = value
    if "proposal" not in table and isinstance(table.get("estimator", ""), str):
        nested["proposal"] = proposal_for(table.get("estimator", RunConfig.estimator))
    return read_table(RunConfig, nested, RunError)


def to_toml(config: RunConfig) -> str:
    """A configuration as TOML, of which ``make_config`` makes the same one.

    The keys of a person's own data are there if there are such data.

    Example:
        >>> to_toml(RunConfig(hidden=(5,))).splitlines()[:3]
        ['data = "digits"', 'network = "sfnn"', 'hidden = [5]']
    """
    table = flat(config)
    return "".join(f"{key} = {_value(value)}\n" for key, value in table.items())


def flat(config: RunConfig) -> dict[str, Any]:
    """A configuration as one table, without keys that have no effect.

    Example:
        >>> flat(RunConfig())["epochs"]
        50
    """
    table = asdict(config)
    schedule, own = table.pop("schedule"), table.pop("own")
    default = asdict(OwnData())
    chosen = {key: one for key, one in own.items() if one or one != default[key]}
    return {**table, **schedule, **(chosen if config.is_own else {})}


def _keys() -> list[str]:
    keys = [key for key in _names(RunConfig) if key not in PARTS]
    return [*keys, *(key for kind in PARTS.values() for key in _names(kind))]


def _names(kind: Any) -> list[str]:
    return [field.name for field in fields(kind)]


def _value(value: Any) -> str:
    if isinstance(value, str):
        # A basic string of TOML is one of JSON, but for one more character that is escaped.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    return json.dumps(value)
