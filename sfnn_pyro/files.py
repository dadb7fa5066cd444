"""The earlier name of ``sfnn_pyro.system.sealed_files``."""

from sfnn_pyro.system.sealed_files import write_sealed

__all__ = ["write_sealed"]
