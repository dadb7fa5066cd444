"""Runs: a configuration, the folder it is trained in, and checkpoints from which it resumes."""

from sfnn_pyro.runs.choices import MAX_PARTICLES, NETWORKS, PRECISIONS, PROPOSALS, RunError
from sfnn_pyro.runs.config_file import flat, make_config, read_config_file, to_toml
from sfnn_pyro.runs.configuration import RunConfig
from sfnn_pyro.runs.folder import RunInUseError, locked, read_config
from sfnn_pyro.runs.records import machine, standard_error
from sfnn_pyro.runs.saved_run import SavedRun, load_model, load_run, save
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
    "flat",
    "load_model",
    "load_run",
    "locked",
    "machine",
    "make_config",
    "read_config",
    "read_config_file",
    "save",
    "standard_error",
    "to_toml",
    "train_run",
]
