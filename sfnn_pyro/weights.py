"""The name of this module in the first release; new programs import the one below."""

from sfnn_pyro.particles.weights import (
    effective_sample_size,
    leave_one_out,
    log_mean_exp,
    responsibilities,
)

__all__ = ["effective_sample_size", "leave_one_out", "log_mean_exp", "responsibilities"]
