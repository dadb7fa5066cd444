"""Whether the processes of a training were given the same to do."""

import hashlib
import os
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from torch import Tensor

import sfnn_pyro
from sfnn_pyro.distributed.process_group import ProcessGroup
from sfnn_pyro.training import TrainingError

PACKAGES = ("torch", "pyro-ppl", "numpy")


class DisagreementError(TrainingError):
    """Two processes of one training differ in what they run, or in what they train on."""


def check_agreement(group: ProcessGroup, given: Mapping[str, Any]) -> None:
    """Refuses to begin where a rank runs other code, or was given other options or data.

    Gradients of different things would be averaged without a complaint: ``torchrun`` starts on
    each host whatever is installed there.

    Arguments:
        group: the processes, all of which call this.
        given: names and values that must be the same on all of them; of tensors the contents.

    Raises:
        DisagreementError: on every rank alike; it names the first difference and the two ranks.

    Example:
        >>> check_agreement(ProcessGroup(), {"split": "data"})
    """
    if group.is_alone:
        return
    own = {**_versions(), **{name: _comparable(value) for name, value in given.items()}}
    seen = group.gather_objects((platform.node(), own))
    host, expected = seen[0]
    for rank, (other, values) in enumerate(seen):
        for name, value in expected.items():
            if values.get(name) != value:
                raise DisagreementError(
                    f"rank 0 (on {host}) and rank {rank} (on {other}) differ in {name}: "
                    f"{value!r} and {values.get(name)!r}; make them alike, and start all again"
                )


def _versions() -> dict[str, str]:
    found = {f"the version of {name}": _version(name) for name in ("sfnn_pyro", *PACKAGES)}
    return {**found, "the source code of sfnn_pyro": _source()}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _source() -> str:
    """A checksum of the package's own modules: a checkout changes without its version."""
    (folder,) = sfnn_pyro.__path__
    digest = hashlib.sha256()
    # Links are followed: in a checkout models, guides and experiments lie beside the package.
    names = {
        os.path.relpath(os.path.join(place, name), folder)
        for place, _, files in os.walk(folder, followlinks=True)
        for name in files
        if name.endswith(".py")
    }
    for name in sorted(names):
        digest.update(name.encode() + Path(folder, name).read_bytes())
    return digest.hexdigest()[:12]


def _comparable(value: Any) -> Any:
    if isinstance(value, Tensor):
        contents = value.detach().cpu().contiguous().numpy().tobytes()
        return f"{tuple(value.shape)}, checksum {hashlib.sha256(contents).hexdigest()[:12]}"
    return value
