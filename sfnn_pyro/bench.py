r"""A bench for gradient estimators: bias, variance, signal, time and memory side by side.

``python -m sfnn_pyro.bench docs`` writes ``docs/estimator-bench.md`` and its picture, in about
six minutes.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyro
import torch
from torch import Tensor

from sfnn_pyro.estimators import ESTIMATORS, G5, RLOO, VIMCO, Estimator
from sfnn_pyro.evaluation.exact import exact_log_likelihood, exact_objective
from sfnn_pyro.guides import PriorProposal, RecognitionNetwork
from sfnn_pyro.particles import SiteTerm
from sfnn_pyro.system.arguments import given_path
from sfnn_pyro.system.atomic_files import check_target, save_figure, write_text
from sfnn_pyro.system.figures import COLOURS, new_figure, styled
from sfnn_pyro.system.stop_requests import INTERRUPTED

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Layers = dict[str, list[Tensor]]


@dataclass(frozen=True)
class Measurement:
    """Bias, variance and cost of one estimator for one layer.

    Arguments:
        estimator: its name.
        layer: the parameters' common prefix, or "all".
        target: what bias is measured against.
        bias: distance of the mean gradient from the target's, over the target's norm.
        bias_error: how much of ``bias`` is due to the finite number of repetitions.
        deviation: root of the summed variances of the elements, over the target's norm.
        signal_to_noise: norm of the mean gradient over the root of the summed variances.
        seconds: median time of a step.
        megabytes: what autograd keeps for the backward pass.
        passes: forward runs of a step for each of its particles, as the estimator declares.
    """

    estimator: str
    layer: str
    target: str
    bias: float
    bias_error: float
    deviation: float
    signal_to_noise: float
    seconds: float
    megabytes: float
    passes: float = 1.0

    @property
    def equal_cost_deviation(self) -> float:
        """The deviation at the cost of one forward run of each particle.

        A step that runs its particles three times has a third of a gradient to give for that:
        means of gradients at equal cost have this deviation, up to a common factor.
        """
        return self.deviation * math.sqrt(self.passes)


def compare(
    estimators: Mapping[str, Estimator],
    model: Any,
    args: tuple,
    guide: Callable[..., Any] | None = None,
    *,
    repetitions: int = 200,
    long_run: int = 2000,
) -> list[Measurement]:
    r"""Measures estimators on one minibatch, layer by layer.

    The target is enumerated where it can be: the gradient of log P(y|x) for the estimators that
    aim at it, of E[Chat_M] or E[Chat_1] for the others. Elsewhere it is the mean of a long run:
    of ``VIMCO`` for the objective, ``RLOO`` for the bound of one sample, and ``G5`` with 50 times
    the particles for the likelihood.

    Arguments:
        estimators: by name.
        model: a module; its parameters are grouped into layers by name.
        args: a minibatch.
        guide: for estimators that do not accept the prior; all others get the prior.
        repetitions: gradients drawn from each estimator.
        long_run: gradients of the long run.

    Returns:
        One measurement for each estimator and layer, and one for all layers together.

    Raises:
        ValueError: an estimator needs a guide and none was given.

    Example:
        >>> import torch
        >>> from sfnn_pyro.estimators import G4, G5
        >>> from sfnn_pyro.models import SFNN
        >>> model, args = SFNN([2, 2, 3]), (torch.zeros(4, 2), torch.ones(4, 3))
        >>> rows = compare({"g4": G4(2), "g5": G5(2)}, model, args, repetitions=3)
        >>> [row.layer for row in rows[:3]]
        ['layers.0', 'layers.1', 'all']
    """
    with pyro.get_param_store().scope():
        return _compare(estimators, model, args, guide, repetitions, long_run)


def gradient_norm_by_constant(
    model: Any,
    args: tuple,
    factors: Sequence[float],
    *,
    num_particles: int = 20,
    repetitions: int = 10,
) -> list[float]:
    r"""The paper's Figure 1 (left): norm of the first layer's gradient against c times M for G5.

    The constant changes the variance alone, so the least norm is the least variance. Every
    constant sees the same particles.

    References:
        Raiko et al., ICLR 2015, Figure 1.

    Arguments:
        model: a module.
        args: a minibatch.
        factors: c times M.
        num_particles: M.
        repetitions: draws of the particles that the norm is averaged over.

    Returns:
        One norm for each factor.

    Example:
        >>> import torch
        >>> from sfnn_pyro.models import SFNN
        >>> args = torch.zeros(4, 2), torch.ones(4, 3)
        >>> len(gradient_norm_by_constant(SFNN([2, 2, 3]), args, [0.0, 1.0]))
        2
    """
    first = next(iter(layers_of(model).values()))
    prior, seed = PriorProposal(model), int(torch.randint(2**31, ()))
    norms = []
    with torch.random.fork_rng(), pyro.get_param_store().scope():
        for factor in factors:
            torch.manual_seed(seed)
            estimator = G5(num_particles, c=factor / num_particles)
            draws, _ = gradients_of(estimator, model, prior, args, {"": first}, repetitions)
            norms.append(draws.norm(dim=1).mean().item())
    return norms


def layers_of(model: Any) -> Layers:
    """A module's parameters by the part of their name before the last dot."""
    layers: Layers = {}
    for name, parameter in model.named_parameters():
        layers.setdefault(name.rpartition(".")[0] or name, []).append(parameter)
    return layers


def table(measurements: Sequence[Measurement]) -> str:
    """Bias and variance as a Markdown table."""
    lines = [
        "| estimator | layer | target | bias | ± | deviation | at equal cost | signal to noise |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {r.estimator} | {r.layer} | {r.target} | {r.bias:.3f} | {r.bias_error:.3f} "
        f"| {r.deviation:.2f} | {r.equal_cost_deviation:.2f} | {r.signal_to_noise:.2f} |"
        for r in measurements
    ]
    return "\n".join(lines) + "\n"


def cost_table(measurements: Sequence[Measurement]) -> str:
    """Signal, time and memory as a Markdown table."""
    lines = [
        "| estimator | signal to noise | ms per step | MB for backward |",
        "| --- | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {r.estimator} | {r.signal_to_noise:.3f} | {1000 * r.seconds:.0f} | {r.megabytes:.1f} |"
        for r in measurements
    ]
    return "\n".join(lines) + "\n"


@styled
def draw(
    measurements: Sequence[Measurement], curves: Mapping[str, tuple[Sequence[float], list[float]]]
) -> Figure:
    """Bias and deviation of every estimator by layer; and the curves of Figure 1 (left)."""
    names = list(dict.fromkeys(r.estimator for r in measurements))
    layers = [layer for layer in dict.fromkeys(r.layer for r in measurements) if layer != "all"]
    figure = new_figure(figsize=(10.5, 3.6), layout="constrained")
    panels = figure.subplots(1, 3, width_ratios=[1, 1, 0.9])
    height = 0.8 / len(layers)
    for axes, field in zip(panels, ("bias", "deviation"), strict=False):
        for number, layer in enumerate(layers):
            rows = [r for r in measurements if r.layer == layer]
            middle = (number - (len(layers) - 1) / 2) * height
            places = [names.index(r.estimator) + middle for r in rows]
            lengths = [getattr(r, field) for r in rows]
            axes.barh(places, lengths, height, label=layer, color=COLOURS[number % len(COLOURS)])
            if field == "bias":
                chance = [r.bias_error for r in rows]
                axes.plot(chance, places, "k|", markersize=5)
        axes.set_yticks(range(len(names)), names)
        axes.invert_yaxis()
        axes.set_xscale("log")
        axes.set_xlabel(f"{field} / norm of the target")
    panels[0].legend(fontsize=8)
    panels[0].set_title("bias (black: what chance alone gives)", fontsize=9)
    panels[1].set_title("standard deviation of one gradient", fontsize=9)
    for label, (factors, norms) in curves.items():
        panels[2].plot(factors, norms, "o-", markersize=3, label=label)
    panels[2].axvline(1, color="grey", linewidth=0.8)
    panels[2].set_ylim(bottom=0)
    panels[2].set_xlabel("c M")
    panels[2].set_ylabel("norm of the first layer's gradient, nats")
    panels[2].set_title("G5 and its constant (Figure 1, left)", fontsize=9)
    panels[2].legend(fontsize=8)
    return figure


def _compare(
    estimators: Mapping[str, Estimator],
    model: Any,
    args: tuple,
    guide: Callable[..., Any] | None,
    repetitions: int,
    long_run: int,
) -> list[Measurement]:
    layers = layers_of(model)
    prior = PriorProposal(model)
    references: dict[tuple[str, int], tuple[str, Tensor]] = {}
    results = []
    for name, estimator in estimators.items():
        proposal: Callable[..., Any] = prior
        if "prior" not in estimator.proposals:
            if guide is None:
                raise ValueError(f"{name} does not take the prior as its proposal: give a guide")
            proposal = guide
        m = estimator.num_particles
        key = (estimator.target, 0 if estimator.target == "likelihood" else m)
        if key not in references:
            references[key] = _reference(model, layers, args, key[0], m, long_run)
        how, target = references[key]
        draws, seconds = gradients_of(estimator, model, proposal, args, layers, repetitions)
        megabytes = _kept_megabytes(estimator, model, proposal, args)
        passes = passes_of(estimator, model, proposal, args)
        start = 0
        groups = {**layers, "all": [p for group in layers.values() for p in group]}
        for layer, parameters in groups.items():
            size = sum(p.numel() for p in parameters)
            columns = slice(0, size) if layer == "all" else slice(start, start + size)
            start += size
            mean, aim = draws[:, columns].mean(0), target[columns]
            noise = draws[:, columns].var(0).sum().sqrt().item()
            norm = aim.norm().item()
            results.append(
                Measurement(
                    name,
                    layer,
                    f"{estimator.target}, {how}",
                    (mean - aim).norm().item() / norm,
                    noise / math.sqrt(repetitions) / norm,
                    noise / norm,
                    mean.norm().item() / noise if noise else math.inf,
                    seconds,
                    megabytes,
                    passes,
                )
            )
    return results


@torch.no_grad()
def passes_of(estimator: Estimator, model: Any, guide: Callable[..., Any], args: tuple) -> float:
    """Forward runs of a step for each of its particles.

    Example:
        >>> import torch
        >>> from sfnn_pyro.estimators import DisARM
        >>> from sfnn_pyro.models import SFNN
        >>> model, args = SFNN([2, 2, 4, 3]), (torch.zeros(4, 2), torch.ones(4, 3))
        >>> passes_of(DisARM(5), model, PriorProposal(model), args)
        3.0
    """
    particles = estimator.draw(model, guide, args, {})
    drawn = [term for part in particles.components for term in part.terms if term.drawn]
    discrete = [term for term in drawn if isinstance(term, SiteTerm) and not term.fn.has_rsample]
    values = math.prod(particles.batch_shape) * particles.num_particles
    units = sum(term.value.numel() for term in discrete) // values
    m = estimator.num_particles
    return estimator.passes.of_particles(m, len(discrete), units) / m


def _reference(
    model: Any, layers: Layers, args: tuple, target: str, num_particles: int, long_run: int
) -> tuple[str, Tensor]:
    """How the target's gradient was found, and the gradient."""
    parameters = [p for group in layers.values() for p in group]
    try:
        if target == "likelihood":
            value = exact_log_likelihood(model, *args).sum()
        else:
            m = 1 if target == "bound" else num_particles
            value = exact_objective(model, *args, num_particles=m).sum()
    except ValueError:
        if target == "likelihood":
            run: Estimator = G5(50 * num_particles)
            long_run = max(long_run // 50, 2)
        else:
            run = (RLOO if target == "bound" else VIMCO)(num_particles)
        draws, _ = gradients_of(run, model, PriorProposal(model), args, layers, long_run)
        return f"long run of {type(run).__name__}", draws.mean(0)
    grads = torch.autograd.grad(value, parameters)
    return "enumerated", torch.cat([g.flatten() for g in grads]).double()


def gradients_of(
    estimator: Estimator,
    model: Any,
    guide: Callable[..., Any],
    args: tuple,
    layers: Layers,
    repetitions: int,
) -> tuple[Tensor, float]:
    """``(R, parameters)`` in float64, of the objective (not the loss), and seconds per step."""
    parameters = [p for group in layers.values() for p in group]
    rows, seconds = [], []
    for _ in range(repetitions):
        start = time.perf_counter()
        loss = estimator.differentiable_loss(model, guide, *args)
        grads = torch.autograd.grad(loss, parameters, allow_unused=True)
        seconds.append(time.perf_counter() - start)
        flat = [
            (torch.zeros_like(p) if g is None else g).flatten()
            for g, p in zip(grads, parameters, strict=True)
        ]
        rows.append(-torch.cat(flat).double())
    return torch.stack(rows), statistics.median(seconds)


def _kept_megabytes(
    estimator: Estimator, model: Any, guide: Callable[..., Any], args: tuple
) -> float:
    """Storage that autograd saves for the backward pass, each counted once, without parameters."""
    parameters = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, int] = {}
    alive = []

    def pack(value: Tensor) -> Tensor:
        storage = value.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = storage.nbytes()
            alive.append(value)
        return value

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
        estimator.differentiable_loss(model, guide, *args)
    return sum(kept.values()) / 1e6


def main(folder: str | Path) -> None:
    """Writes the bench's page and picture into a folder."""
    from sfnn_pyro.data import load_dataset
    from sfnn_pyro.models import SFNN
    from sfnn_pyro.runs import machine
    from sfnn_pyro.training import Schedule, Trainer

    torch.set_num_threads(1)
    torch.manual_seed(0)
    m = 4
    small = SFNN([6, 3, 2, 6])
    for parameter in small.parameters():
        torch.nn.init.normal_(parameter, std=1.5)
    args = torch.rand(4, 6).round(), torch.rand(4, 6).round()
    guide = RecognitionNetwork(small, width=8)
    names = [name for name in ESTIMATORS if name != "arms"]  # it accepts one layer alone
    chosen = {name: ESTIMATORS[name](num_particles=m) for name in names}
    exact = compare(chosen, small, args, guide, repetitions=2000)

    torch.manual_seed(0)
    large = SFNN([392, 200, 200, 392])
    batch = torch.rand(100, 392).round(), torch.rand(100, 392).round()
    names.remove("psa")  # it runs the model for each of 400 units
    chosen = {name: ESTIMATORS[name](num_particles=20) for name in names}
    costs = compare(chosen, large, batch, RecognitionNetwork(large), repetitions=11, long_run=50)

    digits = load_dataset("digits")
    model = SFNN([digits.x_size, 60, 60, digits.y_size])
    trainer = Trainer(
        model,
        PriorProposal(model),
        G5(20),
        digits.train,
        digits.validation,
        Schedule(epochs=20, learning_rate=0.3, batch_size=20),
    )
    factors = [i / 4 for i in range(13)]
    sample = digits.train.x[:100], digits.train.y[:100]
    curves = {}
    for epoch in trainer.run():
        if epoch.epoch in (1, 5, 20):
            norms = gradient_norm_by_constant(model, sample, factors)
            curves[f"after epoch {epoch.epoch}"] = (factors, norms)
    save_figure(draw(exact, curves), Path(folder) / "estimator-bench.png")
    text = _PAGE.format(
        exact=table(exact),
        costs=cost_table([r for r in costs if r.layer == "all"]),
        machine=", ".join(f"{key} {value}" for key, value in machine().items()),
    )
    write_text(Path(folder) / "estimator-bench.md", text)


_PAGE = """# The estimators, measured

Written by `python -m sfnn_pyro.bench docs` ({machine}).

![bias and deviation of every estimator, and the constant of G5](estimator-bench.png)

Bias and deviation are relative to the norm of the target's gradient; ± is the bias that the
finite number of repetitions alone would show. At equal cost, the further forward runs of an
estimator are counted: it is the deviation of means of gradients that the same runs give.
`objective` is E[Chat_M], `likelihood` log P(y|x), `bound` E[Chat_1]: an estimator is measured
against its own target.

## A 6-3-2-6 network, M = 4, four datapoints, every target enumerated

{exact}
Estimators declared unbiased show no bias beyond chance; tests compare them with their enumerated
expectation to 1e-10. `arms` does not accept a second layer and is left out. G4 and G5 have the
bias of self-normalised importance sampling, which falls as 1/M, and share it. `rws` is G4 with an
untrained guide, which is worse than the prior.

## A 392-200-200-392 network, M = 20, B = 100, untrained, on noise

Time is the median of eleven gradients on one thread of a shared machine. `rws` runs model *and*
recognition network; `disarm`, `bitflip`, `rebar` and `relax` run the model once more for every
layer; `psa`, which does so for every unit, is left out. The signal-to-noise ratio
counts what the eleven gradients have in common by chance, 1/sqrt(11) = 0.3, as signal.

{costs}
"""


def _run() -> None:
    """Runs the bench as a program; an error is one line on standard error."""
    parser = argparse.ArgumentParser(
        prog="python -m sfnn_pyro.bench",
        description="Measure bias, variance and cost of every estimator. Takes about six minutes.",
    )
    parser.add_argument(
        "folder", help="Folder to which estimator-bench.md and its picture are written."
    )
    given = parser.parse_args().folder
    try:
        folder = given_path("folder", given)
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"{folder} is no folder: give another path")
        for name in ("estimator-bench.md", "estimator-bench.png"):
            check_target(folder / name)
        main(folder)
    except KeyboardInterrupt:
        parser.exit(INTERRUPTED, f"{parser.prog}: interrupted\n")
    except (ValueError, OSError) as error:
        parser.exit(2, f"{parser.prog}: {error}\n")


if __name__ == "__main__":
    _run()
