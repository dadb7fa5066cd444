"""Our estimators under the names, and with the constructors, of Pyro's losses.

Pyro's constructor arguments that mean nothing here are dropped, a number of particles below 2
becomes 2 (a particle needs another one as its baseline), and ``particles`` may override whether
they run in one vectorised pass.
"""

import inspect
import sys
from dataclasses import dataclass
from typing import Any

import pyro.infer

from sfnn_pyro import estimators
from sfnn_pyro.estimators.base import Options

PYROS = {
    name: getattr(pyro.infer, name)
    for name in ("Trace_ELBO", "TraceGraph_ELBO", "RenyiELBO", "ReweightedWakeSleep")
}
"""Pyro's own classes, by name."""


@dataclass
class Usage:
    """What the stand-ins were asked for since ``reset``, and how all of them run."""

    used: bool = False
    vectorised: bool | None = None
    """Overrides every ``vectorize_particles``; None leaves each as the program has it."""

    def reset(self) -> None:
        self.used = False


USAGE = Usage()


def adapted(ours: type, arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments of Pyro's constructor that ``ours`` takes, changed where it must be."""
    known = {*inspect.signature(ours.__init__).parameters, *Options.__annotations__}
    taken = {
        name: value for name, value in arguments.items() if name in known and value is not None
    }
    taken["num_particles"] = max(2, taken["num_particles"])
    if USAGE.vectorised is not None:
        taken["vectorize_particles"] = USAGE.vectorised
    return taken


class StandIn:
    """Notes that it is used; for the rest, the estimator that it is mixed into."""

    def _start(self, ours: Any, arguments: dict[str, Any]) -> None:
        USAGE.used = True
        nesting = arguments.pop("max_iarange_nesting", None)  # the older name
        if nesting is not None:
            arguments["max_plate_nesting"] = nesting
        ours.__init__(self, **adapted(ours, arguments))

    # A loss may be made where a module is imported and called by many tests.
    def loss(self, *args: Any, **kwargs: Any) -> Any:
        USAGE.used = True
        return super().loss(*args, **kwargs)

    def loss_and_grads(self, *args: Any, **kwargs: Any) -> Any:
        USAGE.used = True
        return super().loss_and_grads(*args, **kwargs)

    def differentiable_loss(self, *args: Any, **kwargs: Any) -> Any:
        USAGE.used = True
        return super().differentiable_loss(*args, **kwargs)


class Trace_ELBO(StandIn, estimators.RLOO):
    def __init__(
        self,
        num_particles=1,
        max_plate_nesting=float("inf"),
        max_iarange_nesting=None,
        vectorize_particles=False,
        strict_enumeration_warning=True,
        ignore_jit_warnings=False,
        jit_options=None,
        retain_graph=None,
        tail_adaptive_beta=-1.0,
    ):
        arguments = {name: value for name, value in locals().items() if name != "self"}
        arguments.pop("__class__", None)
        self._start(estimators.RLOO, arguments)


class TraceGraph_ELBO(Trace_ELBO):
    """A class of its own: Pyro's tests compare the two by identity."""


class RenyiELBO(StandIn, estimators.VIMCO):
    def __new__(cls, alpha=0, *args, **kwargs):
        # Only at alpha 0 is it the multi-sample objective.
        if alpha != 0:
            return PYROS["RenyiELBO"](alpha, *args, **kwargs)
        return super().__new__(cls)

    def __init__(
        self,
        alpha=0,
        num_particles=2,
        max_plate_nesting=float("inf"),
        max_iarange_nesting=None,
        vectorize_particles=False,
        strict_enumeration_warning=True,
    ):
        arguments = {name: value for name, value in locals().items() if name != "self"}
        arguments.pop("__class__", None)
        self._start(estimators.VIMCO, arguments)


class ReweightedWakeSleep(StandIn, estimators.ReweightedWakeSleep):
    def __init__(
        self,
        num_particles=2,
        insomnia=1.0,
        model_has_params=True,
        num_sleep_particles=None,
        vectorize_particles=True,
        max_plate_nesting=float("inf"),
        strict_enumeration_warning=True,
    ):
        arguments = {name: value for name, value in locals().items() if name != "self"}
        arguments.pop("__class__", None)
        self._start(estimators.ReweightedWakeSleep, arguments)


STAND_INS = {
    kind.__name__: kind for kind in (Trace_ELBO, TraceGraph_ELBO, RenyiELBO, ReweightedWakeSleep)
}


def _put(classes: dict[str, type], in_place_of: dict[str, type]) -> None:
    """Exchanges the classes wherever a loaded module of Pyro refers to them."""
    for module in [module for name, module in sys.modules.items() if name.startswith("pyro")]:
        for name, old in in_place_of.items():
            if getattr(module, name, None) is old:
                setattr(module, name, classes[name])


def replace() -> None:
    """Puts ours in the place of Pyro's; a module loaded later takes what it finds."""
    _put(STAND_INS, PYROS)


def restore() -> None:
    """Puts Pyro's own classes back."""
    _put(PYROS, STAND_INS)
