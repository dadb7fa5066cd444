"""Whole configurations by name: what ``sfnn train --preset`` trains."""

from dataclasses import replace

from sfnn_pyro.runs.choices import RunError
from sfnn_pyro.runs.configuration import RunConfig
from sfnn_pyro.training import Schedule

PRESETS = {
    "fast": RunConfig(
        data="mnist",
        kept=2,
        compile=True,
        schedule=Schedule(
            epochs=34,
            batch_size=200,
            learning_rate=0.085,
            rising_epochs=3.0,
            weight_decay=3e-5,
        ),
    )
}
"""``fast``: the paper's best completion of MNIST, G3 with M = 20, in the least time that was found;
``python -m benchmarks.record`` measures it."""


def preset(
    name: str,
    *,
    seed: int = Schedule.seed,
    precision: str = RunConfig.precision,
) -> RunConfig:
    """A preset with a seed, in a precision.

    Arguments:
        name: one in ``PRESETS``.
        seed: of the weights, the order of the data and the particles.
        precision: ``"bfloat16"`` pays on processors that have it.

    Raises:
        RunError: there is no preset of this name, or no such precision.

    Example:
        >>> preset("fast", seed=1).schedule.seed
        1
    """
    if name not in PRESETS:
        raise RunError(f"preset={name!r}: choose one of {', '.join(PRESETS)}")
    config = PRESETS[name]
    return replace(config, schedule=replace(config.schedule, seed=seed), precision=precision)
