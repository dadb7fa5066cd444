"""One program under every estimator, held to the oracle."""

import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pyro
import torch
from torch import Tensor

from sfnn_pyro.estimators import (
    ESTIMATORS,
    G1,
    OVIS,
    VIMCO,
    Chunked,
    DisARM,
    Estimator,
    ReweightedWakeSleep,
)
from tests.programs.interpreter import Built, Force, build
from tests.programs.oracle import Expectations, Oracle, coupled
from tests.programs.spec import Program, is_latent

EXACT = tuple(name for name in ESTIMATORS if name not in ("disarm", "gumbel"))
"""Estimators whose expectation needs the particles alone."""

KINDS = {"bernoulli": "Bernoulli", "onehot": "OneHotCategorical", "delta": "reparameterisable"}


@dataclass(frozen=True)
class Setting:
    """How an estimator is called.

    Arguments:
        num_particles: M.
        vectorize: particles at once, or one after the other.
        call: "differentiable_loss", "loss_and_grads", "module" or "chunked".
        nesting: whether ``max_plate_nesting`` is given.
    """

    num_particles: int = 2
    vectorize: bool = True
    call: str = "differentiable_loss"
    nesting: bool = True


@dataclass(frozen=True)
class Outcome:
    """What an estimator made of a program.

    Arguments:
        status: "agrees", "refused", "differs" or "crashed".
        declared: whether the program lies within the estimator's declared sites and proposals.
        detail: the reason, names and numbers left out, or the difference.
    """

    estimator: str
    status: str
    declared: bool
    detail: str = ""

    @property
    def silent(self) -> bool:
        """Whether nobody would notice."""
        return self.status == "differs"


def declared(kind: type[Estimator], program: Program, num_particles: int) -> bool:
    """Whether the estimator says that it takes the program's latents and its guide."""
    proposal = {"prior": "prior", "mixture": "mixture"}.get(program.guide.kind, "guide")
    families = {
        "delta" if site.family == "normal" else site.family
        for site in program.sites
        if is_latent(site)
    }
    takes = all(KINDS.get(family, "other") in kind.sites for family in families)
    least = 2 if proposal == "mixture" else 1
    enough = num_particles >= max(_least(kind), least)
    return proposal in kind.proposals and takes and enough


def _least(kind: type[Estimator]) -> int:
    return getattr(kind, "least_particles", getattr(kind, "min_particles", 1))


def make(name: str, setting: Setting, nesting: int) -> Any:
    """The estimator, in its wrapper; None where it has no such option."""
    kind = ESTIMATORS[name]
    options: dict[str, Any] = {}
    if setting.nesting:
        options["max_plate_nesting"] = nesting
    if not setting.vectorize:
        options["vectorize_particles"] = False
    try:
        estimator: Any = kind(setting.num_particles, **options)
    except TypeError:
        return None
    if setting.call == "chunked":
        try:
            estimator = Chunked(estimator, 1)
        except ValueError:
            return None
    return estimator


class Disagreement(Exception):
    """A number that is not the oracle's."""


def tolerance(program: Program) -> float:
    return 1e-8 if program.dtype == "float64" else 3e-4


def close(got: Tensor, expected: Tensor, program: Program) -> bool:
    limit = tolerance(program) * (1 + expected.abs().max().item() if expected.numel() else 1)
    if got.shape != expected.shape or not got.isfinite().all():
        return False
    return bool(((got - expected).abs() <= limit).all())


def examine(
    program: Program, setting: Setting, names: tuple[str, ...] = EXACT
) -> Iterator[Outcome]:
    """What each estimator makes of the program."""
    oracle = Oracle(program)
    expectations = Expectations(oracle, setting.num_particles)
    with precision(program):
        for name in names:
            yield _outcome(name, program, setting, expectations)


@contextmanager
def precision(program: Program) -> Iterator[None]:
    """The program's own default dtype, and no warnings: those are not what is tested here."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, program.dtype))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.set_default_dtype(before)


def guarded(
    name: str, within: bool, program: Program, call: Callable[[], None]
) -> Outcome:
    """The outcome of a call that raises a ``Disagreement``, a refusal, or anything else."""
    try:
        call()
    except Disagreement as error:
        return Outcome(name, "differs", within, str(error))
    except Exception as error:
        message = str(error).splitlines()[0] if str(error) else ""
        ours = isinstance(error, ValueError) and names_something(str(error), program)
        reason = f"{type(error).__name__}: {anonymous(message, program)}"
        return Outcome(name, "refused" if ours else "crashed", within, reason)
    return Outcome(name, "agrees", within)


def names_something(message: str, program: Program) -> bool:
    """Whether an error names a site, a plate, a parameter, an argument or the estimator."""
    words = [site.name for site in program.sites] + [one.name for one in program.plates]
    words += [loop.name for loop in program.loops]
    words += [kind.__name__ for kind in (*ESTIMATORS.values(), Chunked)]
    words += ["argument", "parameter", "num_particles=", "observed site", "the guide"]
    return any(word in message for word in words)


def anonymous(message: str, program: Program) -> str:
    """A reason without the program's own names and numbers, to be counted."""
    message = re.sub(r"'[a-z]\w*'", "'...'", message)
    return re.sub(r"-?\d+(\.\d+)?", "N", message)[:160]


def _outcome(name: str, program: Program, setting: Setting, right: Expectations) -> Outcome:
    within = declared(ESTIMATORS[name], program, setting.num_particles)
    built = build(program)

    def call() -> None:
        estimator = make(name, setting, program.nesting)
        if estimator is None:
            raise ValueError(f"{ESTIMATORS[name].__name__} has no such option")
        compare(name, estimator, built, program, setting, right)

    outcome = guarded(name, within, program, call)
    if outcome.detail.endswith("has no such option"):
        return replace(outcome, declared=False)
    return outcome


def compare(
    name: str,
    estimator: Any,
    built: Built,
    program: Program,
    setting: Setting,
    right: Expectations,
) -> None:
    """Raises ``Disagreement`` unless every loss and the expected gradient are right."""
    oracle = right.oracle
    pieces = coupled(right.probability)
    total = torch.zeros_like(right.of_objective)
    state = None
    if name == "g1":
        estimator.loss(built.model, built.guide, *built.args)
        estimator.differentiable_loss(built.model, built.guide, *built.args)
        state = estimator.state_dict()
    for weight, index in pieces:
        if state is not None:
            estimator.load_state_dict(state)
        loss, gradient = evaluate(estimator, built, program, setting, right, index)
        columns = torch.arange(oracle.datapoints)
        expected = -(right.objective.detach()[index, columns] * oracle.scale).sum()
        if not close(loss, expected, program):
            raise Disagreement(f"loss {loss.item():.6g} for {expected.item():.6g}")
        total = total - weight * gradient
    options = targets(name, estimator, right)
    if not any(close(total, one, program) for one in options):
        worst = (total - options[0]).abs().argmax().item()
        raise Disagreement(
            f"gradient of {_coordinate(oracle, int(worst))}: {total[worst]:.6g} for "
            f"{options[0][worst]:.6g}"
        )
    with forced(built, program, setting, right, pieces[0][1]):
        loss = torch.tensor(estimator.loss(built.model, built.guide, *built.args)).double()
    expected = -(right.objective.detach()[pieces[0][1], columns] * oracle.scale).sum()
    if not close(loss, expected, program):
        raise Disagreement(f"loss() {loss.item():.6g} for {expected.item():.6g}")


def targets(name: str, estimator: Any, right: Expectations) -> list[Tensor]:
    """The expected gradients that are right for an estimator."""
    if name in ("g2", "g3"):
        return [right.of_path("identity" if name == "g2" else "sigmoid")]
    if name in ("g4", "g5"):
        return [right.of_normalised]
    if name == "rws":
        # A guide's own scale may weight its sites in the wake phase, or not: either lowers
        # the divergence of the guide from what the particles stand for.
        return [right.of_wake(law=False), right.of_wake(law=True)]
    if name == "rloo":
        return [right.of_bound]
    return [right.of_objective]


def _coordinate(oracle: Oracle, position: int) -> str:
    for name, leaf in oracle.leaves.items():
        if position < leaf.numel():
            return name
        position -= leaf.numel()
    return "?"


def forced(
    built: Built, program: Program, setting: Setting, right: Expectations, index: Tensor
) -> Force:
    """A handler under which every datapoint has the particles of its tuple."""
    states = right.tuples[index].T  # (M, B)
    return Force(
        right.oracle.values_of(states),
        right.oracle.given.indices,
        program.nesting,
        setting.num_particles,
    )


def evaluate(
    estimator: Any,
    built: Built,
    program: Program,
    setting: Setting,
    right: Expectations,
    index: Tensor,
) -> tuple[Tensor, Tensor]:
    """Loss and gradient of one tuple of particles for every datapoint."""
    leaves = list(built.leaves.values())
    with forced(built, program, setting, right, index):
        if setting.call == "loss_and_grads":
            for leaf in leaves:
                leaf.grad = None
            value = estimator.loss_and_grads(built.model, built.guide, *built.args)
            loss = torch.as_tensor(value)
            grads = [leaf.grad for leaf in leaves]
        else:
            if setting.call == "module":
                loss = estimator(built.model, built.guide)(*built.args)
            else:
                loss = estimator.differentiable_loss(built.model, built.guide, *built.args)
            if loss.requires_grad:
                grads = list(torch.autograd.grad(loss, leaves, allow_unused=True))
            else:
                grads = [None] * len(leaves)
    rows = [
        (torch.zeros_like(leaf) if one is None else one).detach().reshape(-1).double()
        for leaf, one in zip(leaves, grads, strict=True)
    ]
    return loss.detach().double().reshape(()), torch.cat(rows)


