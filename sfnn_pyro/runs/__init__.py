"""Runs: a configuration, the folder it is trained in, and checkpoints from which it resumes."""

from sfnn_pyro.runs.choices import MAX_PARTICLES, NETWORKS, PRECISIONS, PROPOSALS, RunError
from sfnn_pyro.runs.configuration import RunConfig
from sfnn_pyro.runs.folder import (
    RunInUseError,
    SavedRun,
    load_model,
    load_run,
    locked,
    read_config,
)
from sfnn_pyro.runs.records import machine, standard_error
from sfnn_pyro.runs.training_run import train_run

__all__ = [
    "MAX_PARTICLES",
    "NETWORKS",
    "PRECISIONS",
    "PROPOSALS",
    "RunConfig",
    "RunError",
    "RunInUseError",
    "SavedRun",
    "load_model",
    "load_run",
    "locked",
    "machine",
    "read_config",
    "standard_error",
    "train_run",
]
