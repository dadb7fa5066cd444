"""What a result file may hold: every number and shape that the report reads is checked first."""

import base64
import binascii
import math
from typing import Annotated, Any

from sfnn_pyro.system.extras import needed_for

with needed_for("reading result files"):
    from pydantic import BaseModel, ConfigDict, Field, ValidationError

Number = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, le=2**31)]


def _optional() -> Any:
    """Of what may be left out, and is not null where it is there.

    Each field has one of its own: pydantic 2.10 adds a field's bounds to the object it is given.
    """
    return Field(default=None)


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True)


class _Packed(_Strict):
    shape: Annotated[list[Count], Field(min_length=1, max_length=4)]
    bits: str


class _Completions(_Strict):
    x: _Packed
    y: _Packed
    samples: _Packed
    x_shape: Annotated[list[Count], Field(min_length=2, max_length=2)]
    y_shape: Annotated[list[Count], Field(min_length=2, max_length=2)]


class _Particles(_Strict):
    counts: list[Count]
    negative_log_likelihood: list[Number]


class _GradientNorm(_Strict):
    c_times_m: list[Number]
    norm: list[Number]


class _Probe(_Strict):
    steps: Count = _optional()
    train_bound: Number = _optional()
    gradient_variance: Number = _optional()
    gradient_norm: _GradientNorm = _optional()
    entropy: dict[str, Number] = _optional()
    probabilities: Annotated[list[Number], Field(min_length=2, max_length=2)] = _optional()


class _Machine(_Strict):
    processor: str


class _Result(_Strict):
    config: dict[str, Any]
    machine: _Machine
    seconds: Annotated[Number, Field(ge=0)]
    probes: dict[Annotated[str, Field(pattern=r"^\d{1,9}$")], _Probe]
    failure: str = _optional()
    evaluations: dict[str, dict[str, dict[str, Number]]] = _optional()
    particles: _Particles = _optional()
    completions: _Completions = _optional()
    gradient_variance: Number = _optional()


def check_result(result: Any) -> None:
    """Refuses a result whose values are not those that a run writes.

    Raises:
        ValueError: the message names the place.
    """
    try:
        _Result.model_validate(result)
    except ValidationError as error:
        found = error.errors()[0]
        place, why = ".".join(map(str, found["loc"])), found["msg"]
        raise ValueError(f"{place}: {why[:1].lower()}{why[1:]}") from error
    if ("failure" in result) == ("evaluations" in result):
        raise ValueError("it holds not exactly one of evaluations and failure")
    probes = list(result["probes"].values())
    for name, (first, second) in {
        "particles": ("counts", "negative_log_likelihood"),
        "gradient_norm": ("c_times_m", "norm"),
    }.items():
        for one in [result, *probes]:
            if name in one and len(one[name][first]) != len(one[name][second]):
                raise ValueError(f"{name}: {first} and {second} are of different lengths")
    layers = {tuple(sorted(probe["entropy"])) for probe in probes if "entropy" in probe}
    if len(layers) > 1:
        raise ValueError("probes: the entropies are not always of the same layers")
    if "completions" in result:
        _check_completions(result["completions"])


def _check_completions(stored: Any) -> None:
    shapes = {name: stored[name]["shape"] for name in ("x", "y", "samples")}
    for name, shape in shapes.items():
        try:
            size = len(base64.b64decode(stored[name]["bits"], validate=True))
        except (binascii.Error, ValueError) as error:
            raise ValueError(f"completions.{name}: its bits are no base64") from error
        if size != math.ceil(math.prod(shape) / 8):
            raise ValueError(f"completions.{name}: its bits are not of the shape {shape}")
    (rows, x_shape, y_shape) = (shapes["x"][0], stored["x_shape"], stored["y_shape"])
    right = {"x": [rows, math.prod(x_shape)], "y": [rows, math.prod(y_shape)]}
    right["samples"] = [*shapes["samples"][:1], rows, math.prod(y_shape)]
    if shapes != right or 0 in x_shape + y_shape + shapes["samples"] or x_shape[1] != y_shape[1]:
        raise ValueError("completions: the shapes of its pictures do not fit one another")
