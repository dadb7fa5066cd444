"""What makes a pair of model and guide unfit for an estimator, said before it does harm."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pyro
import torch
from pyro import poutine

from sfnn_pyro.distributions.wrapped import base_of, name_of
from sfnn_pyro.particles.programs import BadValue
from sfnn_pyro.particles.proposals import PriorOf, components_of, proposal_kind
from sfnn_pyro.reparam import is_bernoulli
from sfnn_pyro.system.numbers import check_whole

SITE_KINDS = ("Bernoulli", "OneHotCategorical", "reparameterisable", "other")
"""What a latent site may be to an estimator; "other" has a log-probability and no more."""

MAX_PARTICLES = 10**9

_IN_WORDS = {"prior": "PriorProposal(model)", "guide": "a guide", "mixture": "a MixtureProposal"}


def site_kind(fn: Any) -> str:
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
    check_whole("num_particles", num_particles, None, MAX_PARTICLES)
    if num_particles < estimator.least_particles:
        raise ValueError(
            f"num_particles={num_particles}: {type(estimator).__name__} needs at least "
            f"{estimator.least_particles}"
        )


def check_divisible(estimator: Any, divider: str) -> None:
    """Refuses an estimator whose gradient is no weighted sum over particles."""
    if not getattr(estimator, "divisible", False):
        raise ValueError(
            f"{type(estimator).__name__} needs all its particles at once; use it without "
            f"{divider}, or G3, G4, G5 or VIMCO with it"
        )


def check_site(estimator: Any, site: Any) -> None:
    """Refuses a latent site of a kind that the estimator has no gradient for."""
    if site_kind(site["fn"]) not in estimator.sites:
        raise ValueError(
            f"site '{site['name']}': {type(estimator).__name__} has no gradient for a "
            f"{name_of(site['fn'])}; it "
            f"takes {' and '.join(estimator.sites)} sites. Use VIMCO or G4, which take any"
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


def check_options(estimator: Any, options: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    """Refuses constructor arguments of Pyro's losses that mean nothing here."""
    siblings = {
        "ignore_jit_warnings": "Captured replays a recorded step",
        "jit_options": "Captured replays a recorded step",
        "tail_adaptive_beta": "it belongs to pyro.infer.TraceTailAdaptive_ELBO",
        "alpha": "every estimator of sfnn_pyro has the objective of RenyiELBO(alpha=0)",
    }
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
