"""What makes a pair of model and guide unfit for an estimator, said before it does harm."""

import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import pyro
import torch
from pyro import poutine
from pyro.distributions import Rejector

from sfnn_pyro.distributions.wrapped import base_of, is_point, name_of
from sfnn_pyro.particles.draw import Particles
from sfnn_pyro.particles.programs import BadValue
from sfnn_pyro.particles.proposals import PriorOf, components_of, proposal_kind
from sfnn_pyro.particles.terms import SiteTerm
from sfnn_pyro.reparam import is_bernoulli
from sfnn_pyro.system import numbers

SiteKind = Literal["Bernoulli", "OneHotCategorical", "reparameterisable", "other"]

SITE_KINDS: tuple[SiteKind, ...] = ("Bernoulli", "OneHotCategorical", "reparameterisable", "other")
"""What a latent site may be to an estimator; "other" has a log-probability and no more."""

MAX_PARTICLES = 10**9

_IN_WORDS = {"prior": "PriorProposal(model)", "guide": "a guide", "mixture": "a MixtureProposal"}


def site_kind(fn: Any) -> SiteKind:
    """Which of ``SITE_KINDS`` a distribution is.

    Example:
        >>> import pyro.distributions as dist
        >>> site_kind(dist.Bernoulli(0.5)), site_kind(dist.Normal(0, 1)), site_kind(dist.Poisson(1))
        ('Bernoulli', 'reparameterisable', 'other')
    """
    if is_bernoulli(fn):
        return "Bernoulli"
    if isinstance(base_of(fn), torch.distributions.OneHotCategorical):
        return "OneHotCategorical"
    return "reparameterisable" if fn.has_rsample else "other"


def check_count(estimator: Any, num_particles: int) -> None:
    """Refuses a number of particles for which the estimator is not defined."""
    numbers.check_whole("num_particles", num_particles, None, MAX_PARTICLES)
    if num_particles < estimator.min_particles:
        raise ValueError(
            f"num_particles={num_particles}: {type(estimator).__name__} needs at least "
            f"{estimator.min_particles}"
        )


def check_whole(name: str, value: Any, least: int | None = None) -> None:
    """Refuses a count that is no whole number, or below the least that means something.

    Example:
        >>> check_whole("kept", 1.5)
        Traceback (most recent call last):
            ...
        ValueError: kept=1.5: give a whole number
    """
    numbers.check_whole(name, value, None, sys.maxsize)
    if least is not None and value < least:
        raise ValueError(f"{name}={value}: must be at least {least}")


def check_site(estimator: Any, site: Any) -> None:
    """Refuses a latent site of a kind that the estimator has no gradient for."""
    if isinstance(base_of(site["fn"]), Rejector):
        raise ValueError(
            f"site '{site['name']}': a {name_of(site['fn'])} draws by rejection, and its gradient "
            "has a part of its own, which Pyro's Trace_ELBO adds and no estimator here"
        )
    if site_kind(site["fn"]) not in estimator.sites:
        raise ValueError(
            f"site '{site['name']}': {type(estimator).__name__} has no gradient for a "
            f"{name_of(site['fn'])}; it "
            f"takes {' and '.join(estimator.sites)} sites. Use VIMCO or G4, which take any"
        )


def check_transformed(estimator: Any, particles: Particles) -> None:
    """Refuses noise that a guide transforms by parameters, where its draw is held constant.

    Its density is known as a function of the noise; the gradient at a constant *value* of the
    model's latent, which these estimators take, is another one.
    """
    own = {term.name for term in particles.latent if isinstance(term, SiteTerm)}
    for component in particles.components:
        terms = [term for term in component.terms if isinstance(term, SiteTerm) and term.drawn]
        if all(term.name in own or is_point(term.fn) for term in terms):
            continue
        for term in terms:
            if is_point(term.fn) and term.value.requires_grad:
                raise ValueError(
                    f"site '{term.name}': the guide transforms noise by parameters of its own, and "
                    f"{type(estimator).__name__} holds the draw constant; use VIMCO, whose "
                    "gradient passes through it"
                )


def check_support(estimator: Any, site: Any) -> None:
    """Refuses a latent that is held constant though its support moves with its parameters.

    The score of such a law has no mean of zero: ``Uniform(0, theta)``, for example.
    """
    support = base_of(site["fn"]).support
    for bound in (getattr(support, name, None) for name in ("lower_bound", "upper_bound")):
        if torch.is_tensor(bound) and bound.requires_grad:
            raise ValueError(
                f"site '{site['name']}': the support of this {name_of(site['fn'])} moves with its "
                f"parameters, and {type(estimator).__name__} holds the draw constant; use VIMCO, "
                "whose gradient passes through it"
            )


def check_proposal(estimator: Any, model: Callable, guide: Callable) -> None:
    """Refuses a proposal for which the estimator's formula does not hold."""
    kind = proposal_kind(guide, model)
    if kind == "mixture" and "guide" not in estimator.proposals:
        accepts = kind in estimator.proposals and any(
            proposal_kind(part, model) == "prior" for part in components_of(guide)
        )
    else:
        accepts = kind in estimator.proposals
    if accepts:
        return
    accepted = " or ".join(_IN_WORDS[one] for one in estimator.proposals)
    raise ValueError(
        f"{type(estimator).__name__} needs {accepted} as its guide, of the same model, and got "
        f"{_describe(guide, kind)}: {estimator.why_not}"
    )


def check_positions(estimator: Any, more: Sequence[Any]) -> None:
    """Refuses further arguments by position, such as those of ``SVI`` for a class."""
    if more:
        name = type(estimator).__name__
        raise TypeError(
            f"arguments of {name}: it takes num_particles alone by position; where an estimator is "
            f"wanted, as in SVI, give an object, {name}(20), not the class {name}"
        )


def check_options(estimator: Any, options: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    """Refuses constructor arguments of Pyro's losses that mean nothing here."""
    siblings = {
        "ignore_jit_warnings": "Compiled replays a recorded step",
        "jit_options": "Compiled replays a recorded step",
        "tail_adaptive_beta": "it belongs to pyro.infer.TraceTailAdaptive_ELBO",
        "alpha": "every estimator of sfnn_pyro has the objective of RenyiELBO(alpha=0)",
    }
    nesting = options.get("max_plate_nesting", math.inf)
    if nesting != math.inf:
        check_whole("max_plate_nesting", nesting, 0)
    for name in ("vectorize_particles", "strict_enumeration_warning"):
        if not isinstance(options.get(name, True), bool):
            raise ValueError(f"{name}={options[name]!r}: must be True or False")
    for name in options:
        if name not in known:
            hint = siblings.get(name, f"it takes num_particles and {', '.join(known)}")
            raise TypeError(f"{type(estimator).__name__} takes no argument {name}: {hint}")


def check_vectorized(estimator: Any, options: Mapping[str, Any]) -> None:
    """Refuses to run particles one after the other where the estimator needs them at once."""
    if not options.get("vectorize_particles", True):
        raise ValueError(
            f"vectorize_particles=False: {type(estimator).__name__} compares the units of all "
            "particles and runs them at once; use VIMCO(..., vectorize_particles=False)"
        )


def check_finite(args: tuple) -> None:
    """Refuses arguments of the model that would spread as NaN."""
    for number, arg in enumerate(args, 1):
        if not torch.is_tensor(arg) or arg.is_meta or not arg.is_floating_point():
            continue
        if not torch.isfinite(arg).all():
            raise ValueError(
                f"argument {number} of the model holds NaN or infinity: leave those datapoints out"
            )


def blamed_on_data(args: tuple, error: ValueError) -> ValueError:
    """The error of a site, with the argument that holds NaN or infinity, if one does."""
    try:
        check_finite(args)
    except ValueError as why:
        return BadValue(f"{why}; {error}")
    return error


@contextmanager
def watched_parameters(
    model: Callable, guide: Callable, args: tuple, kwargs: dict
) -> Iterator[None]:
    """Refuses parameters that the global store holds under the same name for another model.

    SVI would then update the other model's parameter and leave this one as it is. A module that
    takes the stored parameters over as it runs (``pyro.module(..., update_module_params=True)``)
    is looked at once more after that.
    """
    with _Parameters() as seen:
        yield
    if seen.foreign is None:
        return
    guides = [part for part in components_of(guide) if proposal_kind(part, model) != "prior"]
    devices = range(torch.cuda.device_count())
    with torch.random.fork_rng(devices), torch.no_grad(), poutine.block(), _Parameters() as again:
        for program in (model, *guides):
            program(*args, **kwargs)
    if again.foreign is not None:
        raise ValueError(
            f"parameter '{again.foreign}' in Pyro's global store belongs to another model, "
            "which SVI would train instead of this one: give the root module a name of its "
            "own, or call pyro.clear_param_store() before training another model"
        )


class _Parameters(poutine.messenger.Messenger):
    """Notes the name of a parameter whose stored namesake is another tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.foreign: str | None = None
        self._local = bool(pyro.settings.get("module_local_params"))

    def _pyro_post_param(self, msg: Any) -> None:
        if self._local or self.foreign is not None or len(msg["args"]) < 2:
            return
        own = msg["args"][1]
        if isinstance(own, torch.nn.Parameter):
            stored = pyro.get_param_store()._params.get(msg["name"])
            if stored is not None and stored is not own:
                self.foreign = msg["name"]


def _describe(guide: Any, kind: str) -> str:
    if kind == "prior":
        return "the model's prior"
    if isinstance(guide, PriorOf):
        return "the prior of another model"
    if kind == "mixture":
        return "a mixture that does not hold it"
    return getattr(guide, "__name__", type(guide).__name__)
