"""The variance of all estimators at the same parameters, along one training.

``python -m sfnn_pyro.experiments.trajectory --out docs/results/trajectory`` takes about four
minutes on one core and writes a JSON and a picture.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sfnn_pyro.bench import gradients_of, layers_of, passes_of
from sfnn_pyro.data import load_dataset
from sfnn_pyro.estimators import ESTIMATORS, Estimator
from sfnn_pyro.guides import PriorProposal
from sfnn_pyro.models import SFNN
from sfnn_pyro.runs import machine
from sfnn_pyro.system.atomic_files import save_figure, write_text
from sfnn_pyro.system.figures import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STEPS = (0, 50, 200, 500, 1000, 2000, 3500, 5000)
"""Where the variance is measured, of the steps of the training."""

HIDDEN = (40, 40)


def compared(num_particles: int) -> dict[str, Estimator]:
    """Every estimator that takes the prior and several layers."""
    return {
        name: kind(num_particles=num_particles)
        for name, kind in ESTIMATORS.items()
        if "prior" in kind.proposals and name != "arms"
    }


def measure(
    estimator: Estimator, model: Any, args: tuple[Tensor, Tensor], *, repetitions: int
) -> dict[str, Any]:
    """Mean and variance of the gradient of each layer, for one datapoint of a minibatch.

    As many gradients as are measured are taken before, of which an estimator with a state learns.
    """
    prior, layers = PriorProposal(model), layers_of(model)
    gradients_of(estimator, model, prior, args, layers, repetitions)
    draws, seconds = gradients_of(estimator, model, prior, args, layers, repetitions)
    draws = draws / len(args[0])
    sizes = [sum(p.numel() for p in group) for group in layers.values()]
    parts = zip(layers, draws.split(sizes, 1), strict=True)
    found: dict[str, Any] = {
        name: {
            "variance": float(f"{part.var(0).sum().item():.4g}"),
            "norm": float(f"{part.mean(0).norm().item():.4g}"),
        }
        for name, part in parts
    }
    return {"layers": found, "seconds": round(seconds, 5)}


def follow(options: argparse.Namespace) -> dict[str, Any]:
    """Trains one network, and measures every estimator at some of its steps."""
    data = load_dataset("digits")
    torch.manual_seed(options.seed)
    model = SFNN([data.x_size, *HIDDEN, data.y_size])
    x, y = data.train.x, data.train.y
    fixed = x[: options.batch], y[: options.batch]
    estimators = compared(options.particles)
    trained = ESTIMATORS[options.trained_by](num_particles=options.particles)
    module = trained(model, PriorProposal(model))
    optimizer = torch.optim.SGD(model.parameters(), lr=options.rate, momentum=0.9)
    found: dict[str, Any] = {name: {} for name in estimators}
    marks = [step for step in STEPS if step <= options.steps]
    for step in range(marks[-1] + 1):
        if step in marks:
            for name, estimator in estimators.items():
                found[name][str(step)] = measure(
                    estimator, model, fixed, repetitions=options.repetitions
                )
            print(f"step {step}: done", flush=True)
        index = torch.randint(len(x), (options.batch,))
        optimizer.zero_grad()
        (module(x[index], y[index]) / options.batch).backward()
        optimizer.step()
    passes = {
        name: passes_of(estimator, model, PriorProposal(model), fixed)
        for name, estimator in estimators.items()
    }
    unbiased = {name: estimator.unbiased for name, estimator in estimators.items()}
    targets = {name: estimator.target for name, estimator in estimators.items()}
    return {"passes": passes, "unbiased": unbiased, "targets": targets, "measured": found}


def draw(result: dict[str, Any]) -> Figure:
    """Variance by step: a column for each layer, at equal samples and at equal cost."""
    measured = result["measured"]
    first = next(iter(measured.values()))
    layers = list(next(iter(first.values()))["layers"])
    figure = new_figure(figsize=(12, 7.2), layout="constrained")
    panels = figure.subplots(2, len(layers), sharex=True, sharey="col", squeeze=False)
    from matplotlib import colormaps

    colours = colormaps["tab20"]
    for number, (name, rows) in enumerate(measured.items()):
        steps = [int(step) for step in rows]
        style = "-" if result["unbiased"][name] else "--"
        for column, layer in enumerate(layers):
            values = torch.tensor([row["layers"][layer]["variance"] for row in rows.values()])
            for row, factor in enumerate((1.0, result["passes"][name])):
                panels[row, column].plot(
                    [step + 10 for step in steps],
                    (values * factor).tolist(),
                    style,
                    color=colours(number),
                    marker="os^"[number % 3],
                    markersize=3,
                    lw=1.1,
                    label=name,
                )
    for column, layer in enumerate(layers):
        panels[0, column].set_title(layer, fontsize=10)
        panels[1, column].set_xlabel("step + 10")
        for row in range(2):
            panels[row, column].set_xscale("log")
            panels[row, column].set_yscale("log")
    panels[0, 0].set_ylabel("variance, equal samples")
    panels[1, 0].set_ylabel("variance, equal forward runs")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=9, fontsize=9)
    return figure


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains, measures, and writes the result and its picture."""
    parser = argparse.ArgumentParser(
        prog="python -m sfnn_pyro.experiments.trajectory",
        description="Measure the variance of every estimator along one training.",
    )
    parser.add_argument("--out", type=Path, required=True, help="Folder of the two files.")
    parser.add_argument("--steps", type=int, default=5000, help="Number of steps.")
    parser.add_argument(
        "--trained-by", default="vimco", choices=tuple(ESTIMATORS), help="Estimator that trains."
    )
    parser.add_argument("--particles", type=int, default=2, help="Number of particles M.")
    parser.add_argument("--batch", type=int, default=50, help="Number of datapoints B.")
    parser.add_argument("--rate", type=float, default=0.03, help="Learning rate.")
    parser.add_argument("--repetitions", type=int, default=100, help="Gradients measured.")
    parser.add_argument("--seed", type=int, default=0, help="Seed of all draws.")
    options = parser.parse_args(arguments)
    result = follow(options)
    settings = {**vars(options), "hidden": list(HIDDEN), "data": "digits"}
    settings.pop("out")
    result = {"options": settings, "machine": machine(), **result}
    write_text(options.out / "trajectory.json", json.dumps(result) + "\n")
    save_figure(draw(result), options.out / "trajectory.png")


if __name__ == "__main__":
    main()
