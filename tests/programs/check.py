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

from sfnn_pyro.estimators import ESTIMATORS, Chunked, Estimator, Resampled
from tests.programs.interpreter import Built, build
from tests.programs.messengers import Force, Record
from tests.programs.oracle import Expectations, Oracle, coupled
from tests.programs.spec import Program, is_latent, is_weighed

NOISY = ("disarm", "bitflip", "rebar", "relax", "resampled")
"""Estimators that draw more than particles: held to their target within a statistical bound."""

EXACT = tuple(name for name in ESTIMATORS if name not in (*NOISY, "arms"))
"""Estimators whose expectation needs the particles alone, and the loss of one that has more.

Those of ARMS are not independent: tests/estimators/test_flips.py has its law.
"""

LEARNING = ("g1", "doublecv", "nvil", "rebar", "relax")
"""Estimators with a state, held to their target at the state of an earlier step."""

RUNS_AGAIN = ("muprop", "psa")
"""Estimators whose further runs are none of the particles'."""

UNFORCED = ("g3 drawn", "g4 drawn")
"""Estimators with a closed form at the particles that they drew themselves."""

POINTS = ("delta", "normal")
"""Families of latents whose values have a path."""

REPEATS, SIGMAS = 24, 7.0
"""Evaluations of a noisy estimator at every tuple, and how far off their mean may be."""

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
    if program.guide.kind in ("prior", "mixture") and not any(map(is_weighed, program.sites)):
        return False  # particles of the prior, and nothing that weights them
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
    return getattr(kind, "min_particles", getattr(kind, "min_particles", 1))


def make(name: str, setting: Setting, nesting: int) -> Any:
    """The estimator, in its wrapper; None where it has no such option."""
    kind = ESTIMATORS["g4" if name == "resampled" else name]
    options: dict[str, Any] = {}
    if setting.nesting:
        options["max_plate_nesting"] = nesting
    if not setting.vectorize:
        options["vectorize_particles"] = False
    try:
        estimator: Any = kind(setting.num_particles, **options)
    except (TypeError, ValueError) as error:
        if "vectorize_particles" in str(error):
            return None
        raise
    if name == "resampled":
        return Resampled(estimator, 1)
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


def guarded(name: str, within: bool, program: Program, call: Callable[[], None]) -> Outcome:
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
    names = [site.name for site in program.sites] + [one.name for one in program.plates]
    names += [loop.name for loop in program.loops]
    names += [kind.__name__ for kind in (*ESTIMATORS.values(), Chunked)]
    names += ["argument", "parameter", "num_particles", "observed site", "datapoints", "gf"]
    return any(re.search(rf"\b{name}(_\d+)?\b", message) for name in names)


def anonymous(message: str, program: Program) -> str:
    """A reason without the program's own names and numbers, to be counted."""
    message = re.sub(r"'[a-z]\w*'", "'...'", message)
    return re.sub(r"-?\d+(\.\d+)?", "N", message)[:160]


def _outcome(name: str, program: Program, setting: Setting, right: Expectations) -> Outcome:
    kind = ESTIMATORS["g4" if name == "resampled" else name]
    within = declared(kind, program, setting.num_particles)
    if name == "resampled":  # a value drawn before has no path
        within = within and not any(
            site.family in POINTS for site in program.sites if not site.observed
        )
    built = build(program)

    def call() -> None:
        estimator = make(name, setting, program.nesting)
        if estimator is None:
            raise ValueError(f"{kind.__name__} has no such option")
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
    """Raises ``Disagreement`` unless every loss and the expected gradient are right.

    A noisy estimator that seems off is evaluated many times more before it is called wrong: where
    few evaluations decide, their spread says little of how far their mean may be off.
    """
    try:
        _compare(name, estimator, built, program, setting, right, REPEATS)
    except Disagreement:
        if name not in NOISY:
            raise
        _compare(name, estimator, built, program, setting, right, 100 * REPEATS)


def _compare(
    name: str,
    estimator: Any,
    built: Built,
    program: Program,
    setting: Setting,
    right: Expectations,
    repeats: int,
) -> None:
    oracle = right.oracle
    pieces = coupled(right.probability)
    columns = torch.arange(oracle.datapoints)
    totals = []
    state = None
    if name in LEARNING:
        estimator.loss(built.model, built.guide, *built.args)
        estimator.differentiable_loss(built.model, built.guide, *built.args)
        state = estimator.state_dict()
    for _ in range(repeats if name in NOISY else 1):
        totals.append(torch.zeros_like(right.of_objective))
        for weight, index in pieces:
            if state is not None:
                estimator.load_state_dict(state)
            once = name in NOISY or name in RUNS_AGAIN
            loss, gradient = evaluate(estimator, built, program, setting, right, index, once=once)
            expected = -(right.objective.detach()[index, columns] * oracle.scale).sum()
            if not close(loss, expected, program):
                raise Disagreement(f"loss {loss.item():.6g} for {expected.item():.6g}")
            totals[-1] -= weight * gradient
    total = torch.stack(totals).mean(0)
    options = targets(name, estimator, right)
    if name in NOISY:
        spread = torch.stack(totals).std(0)
        error = SIGMAS * spread / len(totals) ** 0.5
        # What no evaluation drew has a probability of a few in their number, and moves the mean
        # by no more than that, while the spread is zero.
        unseen = SIGMAS / len(totals) * options[0].abs().clamp(min=1.0)
        away = (total - options[0]).abs() - torch.where(spread > 0, error, unseen)
        options = [torch.where(away <= 0, total, one) for one in options]
    if options and not any(close(total, one, program) for one in options):
        worst = (total - options[0]).abs().argmax().item()
        raise Disagreement(
            f"gradient of {_coordinate(oracle, int(worst))}: {total[worst]:.6g} for "
            f"{options[0][worst]:.6g}"
        )
    with forced(program, setting, right, pieces[0][1], once=True):
        loss = torch.tensor(estimator.loss(built.model, built.guide, *built.args)).double()
    expected = -(right.objective.detach()[pieces[0][1], columns] * oracle.scale).sum()
    if not close(loss, expected, program):
        raise Disagreement(f"loss() {loss.item():.6g} for {expected.item():.6g}")


def targets(name: str, estimator: Any, right: Expectations) -> list[Tensor]:
    """The expected gradients that are right for an estimator."""
    if name in ("g2", "g3"):
        return [right.of_path("identity" if name == "g2" else "sigmoid")]
    # A slope or a chain that depends on more than the particles; a closed form of several layers.
    if name in ("gumbel", "gumbelrao", "psa", "jsa"):
        return []
    if name == "reinmax":
        return [right.of_second_order]
    if name in ("g4", "g5", "resampled"):
        return [right.of_normalised]
    if name == "rws":
        # A guide's own scale may weight its sites in the wake phase, or not: either lowers
        # the divergence of the guide from what the particles stand for.
        return [right.of_wake(law=False), right.of_wake(law=True)]
    if name in ("rloo", "doublecv"):
        return [right.of_bound]
    return [right.of_objective]


def _coordinate(oracle: Oracle, position: int) -> str:
    for name, leaf in oracle.leaves.items():
        if position < leaf.numel():
            return name
        position -= leaf.numel()
    return "?"


def forced(
    program: Program, setting: Setting, right: Expectations, index: Tensor, *, once: bool = False
) -> Force:
    """A handler under which every datapoint has the particles of its tuple."""
    states = right.tuples[index].T  # (M, B)
    return Force(
        right.oracle.values_of(states),
        right.oracle.given.indices,
        program.nesting,
        setting.num_particles,
        once=once,
    )


def evaluate(
    estimator: Any,
    built: Built,
    program: Program,
    setting: Setting,
    right: Expectations,
    index: Tensor,
    *,
    once: bool = False,
) -> tuple[Tensor, Tensor]:
    """Loss and gradient of one tuple of particles for every datapoint."""
    with forced(program, setting, right, index, once=once):
        return called(estimator, built, setting)


def called(estimator: Any, built: Built, setting: Setting) -> tuple[Tensor, Tensor]:
    """Loss and gradient, float64, by the way of calling that the setting asks for."""
    leaves = list(built.leaves.values())
    grads: list[Tensor | None] = [None] * len(leaves)
    if setting.call == "loss_and_grads":
        for leaf in leaves:
            leaf.grad = None
        loss = torch.as_tensor(estimator.loss_and_grads(built.model, built.guide, *built.args))
        grads = [leaf.grad for leaf in leaves]
    else:
        if setting.call == "module":
            loss = estimator(built.model, built.guide)(*built.args)
        else:
            loss = estimator.differentiable_loss(built.model, built.guide, *built.args)
        if loss.requires_grad:
            grads = list(torch.autograd.grad(loss, leaves, allow_unused=True))
    rows = [
        (torch.zeros_like(leaf) if one is None else one).detach().reshape(-1).double()
        for leaf, one in zip(leaves, grads, strict=True)
    ]
    return loss.detach().double().reshape(()), torch.cat(rows)


def examine_drawn(program: Program, setting: Setting) -> Iterator[Outcome]:
    """G3 and G4 on particles and minibatches of their own, read off as they are drawn."""
    static = any(site.observed == "condition" or site.do for site in program.sites)
    sees_y = program.guide.kind in ("conditional", "mixture")
    if (static or sees_y) and any(plate.indices == "drawn" for plate in program.plates):
        return  # a value that belongs to one minibatch, or is read outside its plate
    with precision(program):
        for name in UNFORCED:
            kind = ESTIMATORS[name[:2]]
            within = declared(kind, program, setting.num_particles)
            yield guarded(name, within, program, lambda: _drawn(name[:2], program, setting))  # noqa: B023


def _drawn(name: str, program: Program, setting: Setting) -> None:
    built = build(program)
    estimator = make(name, setting, program.nesting)
    if estimator is None:
        return
    oracle = Oracle(program)
    pyro.set_rng_seed(program.seed)
    record = Record(
        {one.name for one in oracle.discrete},
        set(oracle.given.indices),
        program.nesting,
        setting.num_particles,
    )
    with record:
        loss, gradient = called(estimator, built, setting)
    for plate, index in record.indices.items():
        oracle.given.indices[plate] = index
    right = Expectations(oracle, setting.num_particles)
    states = oracle.states_of(record.values()).expand(setting.num_particles, -1)
    expected = right.of_normalised_at(states, "sigmoid" if name == "g3" else None)
    if not close(loss, expected[0], program):
        raise Disagreement(f"loss {loss.item():.6g} for {expected[0].item():.6g}")
    if not any(close(-gradient, one, program) for one in expected[1]):
        right_one = expected[1][-1]
        worst = int((gradient + right_one).abs().argmax())
        raise Disagreement(
            f"gradient of {_coordinate(oracle, worst)}: {-gradient[worst]:.6g} for "
            f"{right_one[worst]:.6g}"
        )
