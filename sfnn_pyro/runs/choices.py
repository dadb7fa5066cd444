"""Which values of a configuration there are, and which of them exclude each other."""

from typing import TYPE_CHECKING

from sfnn_pyro.data import DATASET_NAMES, OwnData
from sfnn_pyro.data.own import BINARISATIONS
from sfnn_pyro.data.splits import LIKELIHOODS
from sfnn_pyro.estimators import ESTIMATORS
from sfnn_pyro.system.numbers import LARGEST_FLOAT32, check_real, check_whole
from sfnn_pyro.training import OPTIMIZERS
from sfnn_pyro.training.early_stopping import MAX_PATIENCE
from sfnn_pyro.training.schedule import Schedule

if TYPE_CHECKING:
    from sfnn_pyro.runs.configuration import RunConfig

NETWORKS = ("sfnn", "deterministic", "hybrid", "coins")
HYBRIDS = ("hybrid", "coins")
PROPOSALS = ("prior", "recognition", "mixture")
PRECISIONS = ("float32", "bfloat16")
LEAVE_GUIDE = ("g4", "g5")
"""Estimators that give a guide's parameters no gradient; ``rws`` is G4 with one."""

MAX_PARTICLES = 10**9
MAX_WIDTH = 2**40
MAX_LAYERS = 1000


class RunError(ValueError):
    """A run that cannot be configured or resumed; the message names the file and the way out."""


def accepts(estimator: str, proposal: str) -> bool:
    """Whether an estimator takes a proposal, and trains it if it is a learned one.

    Example:
        >>> accepts("rws", "prior"), accepts("g4", "recognition")
        (False, False)
    """
    if proposal != "prior" and estimator in LEAVE_GUIDE:
        return False
    accepted = ESTIMATORS[estimator].proposals
    if proposal == "mixture":
        return "mixture" in accepted
    return ("prior" if proposal == "prior" else "guide") in accepted


def check_values(config: "RunConfig") -> None:
    """Refuses a value that is none of the known ones, or out of range.

    Raises:
        RunError: the message names the key and the value.
    """
    _check_choice("network", config.network, NETWORKS)
    _check_choice("estimator", config.estimator, tuple(ESTIMATORS))
    _check_choice("proposal", config.proposal, PROPOSALS)
    _check_choice("optimizer", config.optimizer, tuple(OPTIMIZERS))
    _check_choice("precision", config.precision, PRECISIONS)
    _check_choice("likelihood", config.likelihood, LIKELIHOODS, optional=True)
    _check_choice("binarise", config.binarise, BINARISATIONS, optional=True)
    check_whole("particles", config.particles, 1, MAX_PARTICLES, RunError)
    if not isinstance(config.data, str):
        raise RunError(f"data={config.data!r}: name a data set, or give a path as text")
    if not isinstance(config.hidden, tuple):
        raise RunError(f"hidden={config.hidden!r}: give a tuple of widths, such as (200, 200)")
    for name, kind in (("schedule", Schedule), ("own", OwnData)):
        if not isinstance(getattr(config, name), kind):
            raise RunError(f"{name}={getattr(config, name)!r}: give {kind.__name__}(...)")
    for width in config.hidden:
        check_whole("hidden: the width", width, None, MAX_WIDTH, RunError)
    if not config.hidden or min(config.hidden) < 1:
        raise RunError(f"hidden={list(config.hidden)}: give at least one width, each 1 or more")
    check_whole("hidden: the number of layers", len(config.hidden), 1, MAX_LAYERS, RunError)
    check_whole("stochastic", config.stochastic, 1, MAX_WIDTH, RunError)
    check_whole("encoder", config.encoder, 0, MAX_WIDTH, RunError)
    check_whole("kept", config.kept, 0, MAX_PARTICLES, RunError)
    check_whole("patience", config.patience, 0, MAX_PATIENCE, RunError)
    check_real(
        "noise",
        config.noise,
        lambda noise: 0 <= noise <= LARGEST_FLOAT32,
        "must be 0 or a positive standard deviation",
        RunError,
    )
    check_real(
        "ema",
        config.ema,
        lambda decay: 0 <= decay < 1,
        "must lie in [0, 1), such as 0.999, or 0 for no average",
        RunError,
    )
    check_real(
        "insomnia", config.insomnia, lambda one: 0 <= one <= 1, "must lie in [0, 1]", RunError
    )


def check_combinations(config: "RunConfig") -> None:
    """Refuses values that have no effect, or none together.

    Raises:
        RunError: the message names the key and its option.
    """
    hybrid = config.network in HYBRIDS
    learned = config.proposal != "prior"
    if learned and config.network == "deterministic":
        raise RunError(
            f"proposal={config.proposal!r}: a deterministic network has no hidden units to "
            "propose; leave --proposal out, or train --network sfnn"
        )
    if config.kept and config.network == "deterministic":
        raise RunError(
            f"kept={config.kept}: a deterministic network draws no particles; leave --kept out"
        )
    if config.kept and config.kept >= config.particles:
        raise RunError(
            f"kept={config.kept}: give fewer than the {config.particles} particles, or leave "
            "--kept out to keep all"
        )
    _refuse_unused(config, "stochastic", hybrid, "only the networks hybrid and coins have it")
    _refuse_unused(config, "encoder", learned, "the prior as proposal has no encoder")
    _refuse_unused(config, "insomnia", config.estimator == "rws", "only the estimator rws has it")
    if hybrid and config.stochastic >= min(config.hidden):
        raise RunError(
            f"stochastic={config.stochastic}: each hidden layer of {list(config.hidden)} needs "
            "at least one deterministic unit too; give a smaller --stochastic"
        )
    if config.optimizer != "sgd" and config.schedule.momentum != Schedule.momentum:
        raise RunError(
            f"momentum={config.schedule.momentum}: the optimizer {config.optimizer} has none; "
            "leave --momentum out"
        )
    if config.data in DATASET_NAMES and config.own != OwnData():
        default = OwnData()
        name = next(
            name for name in vars(default) if getattr(config.own, name) != getattr(default, name)
        )
        raise RunError(
            f"{name}={getattr(config.own, name)!r}: the data set {config.data!r} has its own; "
            f"leave --{name.replace('_', '-')} out, or give a file of your own as --data"
        )


def _refuse_unused(config: "RunConfig", name: str, used: bool, why: str) -> None:
    value = getattr(config, name)
    if not used and value != type(config).__dataclass_fields__[name].default:
        raise RunError(f"{name}={value}: {why}; leave --{name} out")


def _check_choice(name: str, value: str, choices: tuple[str, ...], optional: bool = False) -> None:
    if value not in choices and not (optional and not value):
        raise RunError(f"{name}={value!r}: choose one of {', '.join(choices)}")
