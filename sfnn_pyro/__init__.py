"""Stochastic feedforward neural networks and multi-sample objectives, in Pyro.

The names that most programs need are here; the others are in their packages.
"""

from __future__ import annotations

TYPE_CHECKING = False  # not of typing: its import would be most of this package's
if TYPE_CHECKING:
    from typing import Any

    from sfnn_pyro.data import load_dataset
    from sfnn_pyro.estimators import G1, G2, G3, G4, G5
    from sfnn_pyro.evaluation import log_likelihood
    from sfnn_pyro.guides import MixtureProposal, PriorProposal, RecognitionNetwork
    from sfnn_pyro.models import SFNN
    from sfnn_pyro.runs import load_run, save
    from sfnn_pyro.training import Schedule, Trainer

__version__ = "0.1.0"

_PACKAGES = {
    "data": ("load_dataset",),
    "estimators": ("G1", "G2", "G3", "G4", "G5"),
    "evaluation": ("log_likelihood",),
    "guides": ("MixtureProposal", "PriorProposal", "RecognitionNetwork"),
    "models": ("SFNN",),
    "runs": ("load_run", "save"),
    "training": ("Schedule", "Trainer"),
}

__all__ = [
    "G1",
    "G2",
    "G3",
    "G4",
    "G5",
    "SFNN",
    "MixtureProposal",
    "PriorProposal",
    "RecognitionNetwork",
    "Schedule",
    "Trainer",
    "__version__",
    "load_dataset",
    "load_run",
    "log_likelihood",
    "save",
]


def __getattr__(name: str) -> Any:
    """Imports a name when it is first asked for, so that the package itself imports at once."""
    from importlib import import_module

    for package, names in _PACKAGES.items():
        if name in names:
            return getattr(import_module(f"sfnn_pyro.{package}"), name)
    raise AttributeError(f"module 'sfnn_pyro' has no attribute {name!r}")
