"""``log_likelihood``, the exact sums and ``impute`` of a program, held to the oracle."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from sfnn_pyro.evaluation import log_likelihood
from sfnn_pyro.evaluation.exact import exact_log_likelihood, exact_objective
from sfnn_pyro.evaluation.imputation import impute
from tests.programs.check import Disagreement, Outcome, Setting, close, forced, guarded, precision
from tests.programs.grammar import ROWS
from tests.programs.interpreter import build
from tests.programs.messengers import Force
from tests.programs.oracle import Expectations, Oracle, coupled
from tests.programs.spec import Program, event_shape, is_latent, is_weighed

EVALUATIONS = ("log_likelihood", "exact_log_likelihood", "exact_objective", "impute")


def examine_evaluations(program: Program, setting: Setting) -> Iterator[Outcome]:
    """What each function makes of the program; nothing of those it is not meant for."""
    right = Expectations(Oracle(program), setting.num_particles)
    checks: list[tuple[str, bool, Callable]] = []
    if _sliceable(program):
        outermost = [one.name for one in program.plates if one.dim == -program.nesting]
        per_row = right.oracle.shared == outermost
        per_row = per_row and (program.guide.kind != "mixture" or setting.num_particles > 1)
        checks.append(("log_likelihood", per_row, _log_likelihood))
    if program.guide.kind == "prior" and any(is_weighed(site) for site in program.sites):
        checks.append(("exact_log_likelihood", True, _exact))
        checks.append(("exact_objective", True, _exact_objective))
    if _imputable(program, right.oracle):
        checks.append(("impute", True, _impute))
    with precision(program):
        for name, within, check in checks:
            families = {site.family for site in program.sites if is_latent(site)}
            if name.startswith("exact") and "delta" in families:
                within = False
            yield guarded(name, within, program, lambda: check(program, setting, right))  # noqa: B023


def _sliceable(program: Program) -> bool:
    """Whether every argument has the datapoints as its first dimension."""
    if program.loops or not program.nesting or any(plate.full for plate in program.plates):
        return False
    if any(site.observed == "condition" or site.do for site in program.sites):
        return False
    outermost = [plate for plate in program.plates if plate.dim == -program.nesting]
    if len(outermost) != 1:
        return False
    (plate,) = outermost
    observed = [site for site in program.sites if site.observed]
    varying = [handler.plate for handler in program.handlers if handler.plate]
    spans = all(plate.name in site.plates for site in observed)
    return bool(observed) and spans and all(name == plate.name for name in varying)


def _imputable(program: Program, oracle: Oracle) -> bool:
    """Whether the model is a ``model(x, y)`` of one vector y that nothing depends on."""
    observed = [site for site in program.sites if site.observed == "obs"]
    if any(site.hidden for site in program.sites):
        return False
    if not (observed and _sliceable(program) and oracle.shared == [ROWS] and program.nesting == 1):
        return False
    y = observed[-1]
    parents = {parent for site in program.sites for parent in site.parents}
    plain = program.guide.kind in ("prior", "mean_field")
    scaled = any(handler.kind == "scale" for handler in program.handlers)
    return y.units > 0 and y.name not in parents and plain and not scaled


def _log_likelihood(program: Program, setting: Setting, right: Expectations) -> None:
    built = build(program)
    guide = None if program.guide.kind == "prior" else built.guide
    columns = torch.arange(right.oracle.datapoints)
    for _, index in coupled(right.probability)[:2]:
        with forced(program, replace(setting, vectorize=True), right, index):
            got = log_likelihood(
                built.model, *built.args, guide=guide, num_particles=setting.num_particles
            )
        expected = right.objective.detach()[index, columns]
        if expected.numel() != got.numel():  # of two plates that all sites share, rows and others
            expected = expected.reshape(len(got), -1).sum(1)
        _same("log_likelihood", got, expected, program)


def _exact(program: Program, setting: Setting, right: Expectations) -> None:
    built = build(program)
    with minibatch(right, program):
        got = exact_log_likelihood(built.model, *built.args, chunk=3)
    expected = torch.logsumexp(right.tables.law + right.tables.observed, 0)
    _same("exact_log_likelihood", got, expected, program)
    _same_gradient("exact_log_likelihood", got, expected, built.leaves, right, program)


def _exact_objective(program: Program, setting: Setting, right: Expectations) -> None:
    built = build(program)
    with minibatch(right, program):
        got = exact_objective(built.model, *built.args, num_particles=setting.num_particles)
    expected = (right.log_law.exp() * right.objective).sum(0)
    _same("exact_objective", got, expected, program)
    _same_gradient("exact_objective", got, expected, built.leaves, right, program)


def minibatch(right: Expectations, program: Program) -> Force:
    """The oracle's minibatch, whoever draws one."""
    return Force({}, right.oracle.given.indices, program.nesting, 1)


def _same(what: str, got: Tensor, expected: Tensor, program: Program) -> None:
    got = got.detach().double()
    expected = expected.detach()
    if got.numel() != expected.numel():
        raise Disagreement(f"{what} has shape {tuple(got.shape)} for {tuple(expected.shape)}")
    if not close(got.flatten(), expected.flatten(), program):
        worst = int((got.flatten() - expected.flatten()).abs().argmax())
        raise Disagreement(f"{what} {got.flatten()[worst]:.6g} for {expected.flatten()[worst]:.6g}")


def _same_gradient(
    what: str,
    got: Tensor,
    expected: Tensor,
    leaves: dict[str, Tensor],
    right: Expectations,
    program: Program,
) -> None:
    found = [None] * len(leaves)
    if got.requires_grad:
        found = list(torch.autograd.grad(got.sum(), list(leaves.values()), allow_unused=True))
    rows = [
        (torch.zeros_like(leaf) if one is None else one).reshape(-1).double()
        for leaf, one in zip(leaves.values(), found, strict=True)
    ]
    _same(f"gradient of {what}", torch.cat(rows), right.gradient(expected.sum()), program)


def _impute(program: Program, setting: Setting, right: Expectations) -> None:
    """Of forced particles both likelihoods have a closed form; the draws keep what is known."""
    built = build(program)
    observed = [site for site in program.sites if site.observed == "obs"]
    y = observed[-1]
    place = [site.name for site in observed].index(y.name)
    value = built.args[place]

    def model(x: Tensor, y: Tensor) -> Any:
        return built.model(*built.args[:place], y, *built.args[place + 1 :])

    def own_guide(x: Tensor, y: Tensor) -> Any:
        return built.guide(*built.args)

    known = torch.arange(y.units) % 2 == 0
    guide = None if program.guide.kind == "prior" else own_guide
    index = coupled(right.probability)[0][1]
    columns = torch.arange(right.oracle.datapoints)
    with forced(program, replace(setting, vectorize=True), right, index):
        result = impute(
            model,
            torch.zeros(len(value), 1),
            value,
            known,
            guide=guide,
            num_samples=3,
            num_particles=setting.num_particles,
            site=y.name,
            poor=0.0,
        )
    of_known, of_rest = right.oracle.split_observed(y.name, known)
    states = right.tuples[index].T  # (M, B)
    base = right.log_weight.detach()[states, columns]
    whole = right.oracle.split_observed(y.name, torch.ones(y.units, dtype=torch.bool))[0]
    weight = base - whole[states, columns] + of_known[states, columns]
    nats = torch.logsumexp(weight, 0) - math.log(setting.num_particles)
    _same("log_likelihood_known", result.log_likelihood_known, nats, program)
    rest = torch.logsumexp(torch.log_softmax(weight, 0) + of_rest[states, columns], 0)
    _same("log_likelihood_rest", result.log_likelihood_rest, rest, program)
    if not torch.equal(result.samples[:, :, known], value[None, :, known].expand(3, -1, -1)):
        raise Disagreement("impute changed entries that were known")
    if result.samples.shape != (3, *value.shape) or event_shape(y) != (y.units,):
        raise Disagreement(f"samples have shape {tuple(result.samples.shape)}")
