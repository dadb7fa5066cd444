"""Result files: one small JSON file per run, named by its configuration."""

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sfnn_pyro import __version__
from sfnn_pyro.data import Dataset
from sfnn_pyro.experiments.grid import Run
from sfnn_pyro.runs import machine
from sfnn_pyro.system.atomic_files import write_text
from sfnn_pyro.system.regular_files import read_regular

RESULT_LIMIT = 2**26
"""Bytes of a result file, of which most have some hundred kilobytes."""


def result_path(folder: Path, run: Run) -> Path:
    """The path of the result file of a run."""
    return folder / "runs" / f"{run.name}.json"


def write_result(folder: Path, run: Run, result: dict[str, Any]) -> Path:
    """Writes the result of a run under its configuration's name."""
    path = result_path(folder, run)
    entries = {"config": run.to_dict(), **result}.items()
    lines = [f" {json.dumps(key)}: {json.dumps(value, allow_nan=False)}" for key, value in entries]
    write_text(path, "{\n" + ",\n".join(lines) + "\n}\n")
    return path


def write_run(
    folder: Path,
    run: Run,
    result: dict[str, Any],
    *,
    history: list[list[float]],
    probes: dict[str, dict[str, Any]],
    data: Dataset,
    seconds: float,
    device: str,
) -> None:
    """Writes the result of a run and how it was obtained."""
    result = {
        **result,
        "history": {
            "columns": ["epoch", "learning_rate", "train", "validation"],
            "rows": [[_finite(value) for value in row] for row in history],
        },
        "probes": {epoch: probe for epoch, probe in probes.items() if probe},
        "provenance": dict(data.provenance),
        "seconds": round(seconds, 1),
        "device": device,
        "machine": {**machine(), "sfnn_pyro": __version__},
    }
    write_result(folder, run, result)


def _finite(value: float) -> float | None:
    """Rounded for a small file; None where JSON has no number."""
    return None if value != value or abs(value) == float("inf") else round(value, 5)


def read_results(folder: Path) -> dict[str, dict[str, Any]]:
    """All results of a folder by the name of their run; copies from other machines included.

    Raises:
        ValueError: a file is no result, or not that of the configuration it is named after.
    """
    from sfnn_pyro.experiments.result_check import check_result  # only readers need pydantic

    results = {}
    for path in sorted((folder / "runs").glob("*.json")):
        try:
            result = json.loads(read_regular(path, RESULT_LIMIT).decode("utf-8"))
            name = Run.from_dict(result["config"]).name
            check_result(result)
        except (ValueError, LookupError, TypeError, OSError, RecursionError) as error:
            first = str(error).partition("\n")[0]
            raise ValueError(
                f"{path} is no result of this version ({first}): use another copy, or delete it, "
                "which makes the run again"
            ) from error
        if name != path.stem:
            raise ValueError(f"{path} holds the result of {name}: rename it to {name}.json")
        results[name] = result
    return results


def pack_bits(bits: Tensor) -> dict[str, Any]:
    """Binary values as text, eight to a byte.

    Example:
        >>> unpack_bits(pack_bits(torch.eye(3)))
        tensor([[1., 0., 0.],
                [0., 1., 0.],
                [0., 0., 1.]])
    """
    packed = np.packbits(bits.to(torch.uint8).cpu().numpy().ravel())
    return {"shape": list(bits.shape), "bits": base64.b64encode(packed.tobytes()).decode()}


def unpack_bits(stored: dict[str, Any]) -> Tensor:
    """What ``pack_bits`` stored, as float32."""
    raw = np.frombuffer(base64.b64decode(stored["bits"]), np.uint8)
    shape = stored["shape"]
    bits = np.unpackbits(raw, count=int(np.prod(shape)))
    return torch.from_numpy(bits.astype(np.float32)).reshape(shape)
