"""What is measured of a network, during its training and after it."""

import statistics
from collections.abc import Callable
from typing import Any

import torch

from sfnn_pyro.bench import gradient_norm_by_constant
from sfnn_pyro.data import Dataset, Split
from sfnn_pyro.evaluation import log_likelihood
from sfnn_pyro.evaluation.completions import sample_completions
from sfnn_pyro.evaluation.predictions import (
    binary_entropy,
    predictive_mean,
    squared_error,
    unit_probabilities,
)
from sfnn_pyro.experiments.grid import Run
from sfnn_pyro.experiments.problems import particle_counts, programs
from sfnn_pyro.experiments.results import pack_bits
from sfnn_pyro.runs import standard_error

OnPart = Callable[[float], None]

PROBED = 500
"""Validation data whose units' randomness is followed over the epochs."""

NORM_EPOCHS = (1, 7, 50)
NORM_FACTORS = (0.0, 0.25, 0.5, 0.75, 0.9, 1.0, 1.1, 1.25, 1.5, 1.75, 2.0)
"""Of Figure 1 (left): epochs, and c in units of 1/M."""

PICTURED = (0, 3, 8, 9, 18, 24, 33, 61, 62, 92)
"""Rows of the test data in Figure 2."""


def evaluations(
    run: Run, model: Any, data: Dataset, on_part: OnPart, guide: Any = None
) -> dict[str, Any]:
    """Every measure of every program of a run, on validation and test data.

    Arguments:
        run: the configuration.
        model: its network, trained.
        data: its data.
        on_part: called with the part that is done.
        guide: a learned proposal; the likelihood is then estimated with it too.
    """
    trained = programs(run, model)
    evaluated = [(name, program, None, run.test_particles) for name, program in trained.items()]
    if run.more_test_particles:
        evaluated.append(("more", trained["trained"], None, run.more_test_particles))
    if guide is not None:
        evaluated.append(("guide", model, guide, run.test_particles))
    parts = [(*one, split) for one in evaluated for split in ("validation", "test")]
    found: dict[str, Any] = {}
    for number, (name, program, proposal, count, split) in enumerate(parts):
        torch.manual_seed(run.seed)
        measured = _measures(program, getattr(data, split), data, count, proposal)
        found.setdefault(name, {})[split] = measured
        on_part((number + 1) / len(parts))
    return found


def figures(run: Run, model: Any, data: Dataset) -> dict[str, Any]:
    """What Figures 1 (right) and 2 are drawn from; of seed 0 alone."""
    if run.seed or data.likelihood != "bernoulli" or data.y_shape is None:
        return {}
    program = programs(run, model)["trained"]
    test = data.test
    torch.manual_seed(run.seed)
    counts = particle_counts(run.test_particles)
    curve = [
        -log_likelihood(program, test.x, test.y, num_particles=count).mean().item()
        for count in counts
    ]
    rows = [row for row in PICTURED if row < len(test)]
    drawn = sample_completions(program, test.x[rows], 10)
    return {
        "particles": {"counts": counts, "negative_log_likelihood": curve},
        "completions": {
            "x_shape": list(data.x_shape or ()),
            "y_shape": list(data.y_shape),
            "x": pack_bits(test.x[rows]),
            "y": pack_bits(test.y[rows]),
            "samples": pack_bits(drawn),
        },
    }


def randomness(run: Run, model: Any, data: Dataset) -> dict[str, Any]:
    """Mean entropy of the units in bits, by layer; for the unit of Theorem 1, P(h=1|x)."""
    if run.network == "deterministic":
        return {}
    with torch.random.fork_rng():
        torch.manual_seed(run.seed)
        if run.network == "unit":
            p = unit_probabilities(model, data.train.x[:2])["h1"]
            return {"probabilities": [round(one, 5) for one in p.flatten().tolist()]}
        probabilities = unit_probabilities(model, data.validation.x[:PROBED])
    means = {name: binary_entropy(p).mean().item() for name, p in probabilities.items()}
    return {"entropy": {name: round(mean, 5) for name, mean in means.items()}}


def gradient_norms(run: Run, model: Any, data: Dataset, epoch: int) -> dict[str, Any]:
    """Figure 1 (left): the norm of the first layer's gradient by c, a mean over datapoints."""
    classified = data.likelihood == "categorical"
    if run.estimator != "g5" or run.seed or not classified or epoch not in NORM_EPOCHS:
        return {}
    x, y = (part[: run.batch_size].split(1) for part in (data.train.x, data.train.y))
    with torch.random.fork_rng():
        torch.manual_seed(run.seed)
        norms = [
            gradient_norm_by_constant(
                model, pair, NORM_FACTORS, num_particles=run.particles, repetitions=1
            )
            for pair in zip(x, y, strict=True)
        ]
    mean = [statistics.fmean(column) for column in zip(*norms, strict=True)]
    return {"gradient_norm": {"c_times_m": list(NORM_FACTORS), "norm": mean}}


def _measures(
    program: Any, part: Split, data: Dataset, particles: int, guide: Any
) -> dict[str, float]:
    values = log_likelihood(program, part.x, part.y, guide=guide, num_particles=particles)
    found = {
        "negative_log_likelihood": -values.mean().item(),
        "standard_error": standard_error(values) if len(values) > 1 else 0.0,
    }
    if guide is not None or data.likelihood == "bernoulli":  # a guide has seen y
        return found
    mean = predictive_mean(program, part.x, num_particles=particles)
    if data.likelihood == "categorical":
        wrong = (mean.argmax(-1) != part.y).to(torch.float32)
        return {**found, "error_percent": 100 * wrong.mean().item()}
    return {
        **found,
        "sum_of_squares": squared_error(values.double(), data.y_size).mean().item(),
        "sum_of_squares_of_mean": (part.y - mean).square().sum(-1).mean().item(),
    }
