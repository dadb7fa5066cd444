"""What a step depends on beside its model, guide and arguments."""

from typing import Any

import pyro
import torch
from pyro.infer.util import is_validation_enabled
from pyro.poutine.block_messenger import BlockMessenger
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import _PYRO_STACK
from pyro.poutine.scale_messenger import ScaleMessenger
from pyro.poutine.trace_messenger import TraceMessenger
from torch.utils import _device as default_device

from sfnn_pyro.recording.tracing import SEQUENTIAL, CannotRecord


def surroundings() -> tuple:
    """The settings of PyTorch and Pyro, and the handlers that are active, as a key.

    Raises:
        CannotRecord: a handler is active whose effect a recording would freeze.

    Example:
        >>> from pyro import poutine
        >>> before = surroundings()
        >>> with poutine.scale(scale=0.5):
        ...     surroundings() == before
        False
    """
    return (
        is_validation_enabled(),
        torch.distributions.Distribution._validate_args,
        torch.get_default_dtype(),
        torch.get_num_threads(),
        torch.get_float32_matmul_precision(),
        torch.are_deterministic_algorithms_enabled(),
        torch.is_inference_mode_enabled(),
        torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu"),
        torch.is_autocast_enabled("cuda") and torch.get_autocast_dtype("cuda"),
        default_device.CURRENT_DEVICE,
        pyro.settings.get("module_local_params"),
        *_handlers(),
    )


def _handlers() -> list[Any]:
    found = []
    for handler in _PYRO_STACK:
        if isinstance(handler, ScaleMessenger):
            if torch.is_tensor(handler.scale):
                raise CannotRecord(
                    "a poutine.scale with a tensor is around the step, which a recording would "
                    f"freeze: give it a number, {SEQUENTIAL}"
                )
            found.append(handler.scale)
        elif not _minds_parameters_alone(handler):
            raise CannotRecord(
                f"a {type(handler).__name__} is active around the step, and a recording would "
                "freeze what it does: put the handler around the model and the guide, "
                f"poutine.condition(model, ...) for example, {SEQUENTIAL}"
            )
    return found


def _minds_parameters_alone(handler: Any) -> bool:
    """Whether a handler leaves sample sites as they are."""
    if isinstance(handler, TraceMessenger):
        return bool(handler.param_only)
    if isinstance(handler, BlockMessenger):  # it hides sites from handlers that are allowed
        return True
    kind = type(handler)
    touched = any(hasattr(kind, f"_pyro_{when}sample") for when in ("", "post_"))
    own = kind._process_message is Messenger._process_message
    return own and not touched
