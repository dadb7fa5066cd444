"""The earlier place of ``sfnn_pyro.runs.train_run``."""

from sfnn_pyro.runs import train_run

__all__ = ["train_run"]
