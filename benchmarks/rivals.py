"""Every implementation in the benchmark of a step, by name."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

from benchmarks.network import SIZES
from benchmarks.timing import Call


@dataclass(frozen=True)
class Rival:
    module: str
    factory: str
    floor: str
    options: dict = field(default_factory=dict)
    pyro: bool = False  # keeps its parameters in Pyro's global store

    def make(self, batch: int, num_particles: int, sizes=SIZES) -> Call:
        module = importlib.import_module(self.module)
        return getattr(module, self.factory)(batch, num_particles, sizes, **self.options)


def _rival(module: str, factory: str, floor: str, *, pyro: bool = False, **options) -> Rival:
    return Rival(f"benchmarks.{module}", factory, floor, options, pyro)


STEPS = {
    "floor_g3": _rival("floors", "make_floor_g3", "floor_g3"),
    "floor_g5": _rival("floors", "make_floor_g5", "floor_g5"),
    "ours_g3": _rival("ours", "make_ours", "floor_g3", pyro=True, estimator="G3"),
    "ours_g4": _rival("ours", "make_ours", "floor_g5", pyro=True, estimator="G4"),
    "ours_g5": _rival("ours", "make_ours", "floor_g5", pyro=True, estimator="G5"),
    "compiled_g3": _rival(
        "ours", "make_ours", "floor_g3", pyro=True, estimator="G3", how="compiled"
    ),
    "compiled_g5": _rival(
        "ours", "make_ours", "floor_g5", pyro=True, estimator="G5", how="compiled"
    ),
    "compiled_g3_bfloat16": _rival(
        "ours", "make_ours", "floor_g3", pyro=True, estimator="G3", how="compiled", bfloat16=True
    ),
    "compiled_g5_bfloat16": _rival(
        "ours", "make_ours", "floor_g5", pyro=True, estimator="G5", how="compiled", bfloat16=True
    ),
    "jax_g3": _rival("jitted", "make_jax_g3", "floor_g3"),
    "jax_g5": _rival("jitted", "make_jax_g5", "floor_g5"),
    "numpyro_renyi": _rival("numpyro_rivals", "make_numpyro_renyi", "floor_g5"),
    "torch_g3": _rival("eager", "make_torch_g3", "floor_g3"),
    "torch_g5": _rival("eager", "make_torch_g5", "floor_g5"),
    "pyro_renyi": _rival("pyro_rivals", "make_pyro_renyi", "floor_g5", pyro=True),
    "pyro_rws": _rival("pyro_rivals", "make_pyro_rws", "floor_g5", pyro=True),
}


def own_store() -> Callable[[], AbstractContextManager]:
    """A context with a Pyro parameter store of its own, which is kept between uses."""
    import pyro

    state = {"params": {}, "constraints": {}}

    @contextmanager
    def around():
        with pyro.get_param_store().scope(state):
            yield

    return around


def build(names, batch: int, num_particles: int, sizes=SIZES, say: Callable[[str], None] = print):
    """Builds the implementations that can be built; prints why others cannot.

    Returns:
        The calls by name, and the contexts to enter around some of them.
    """
    calls: dict[str, Call] = {}
    around: dict[str, Callable[[], AbstractContextManager]] = {}
    for name in names:
        rival = STEPS[name]
        try:
            calls[name] = rival.make(batch, num_particles, sizes)
        except ImportError as error:
            say(f"{name}: skipped, {type(error).__name__}: {error}")
            continue
        if rival.pyro:
            around[name] = own_store()
    return calls, around
