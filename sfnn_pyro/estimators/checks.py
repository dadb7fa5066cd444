"""What makes a pair of model and guide unfit for an estimator, said before it does harm."""

from collections.abc import Callable
from typing import Any

import pyro
import torch
from pyro.poutine import Trace
from pyro.util import check_if_enumerated, check_model_guide_match

from sfnn_pyro.particles import proposal_kind
from sfnn_pyro.reparam import is_bernoulli
from sfnn_pyro.sites import sample_sites

SITE_KINDS = ("Bernoulli", "OneHotCategorical", "reparameterisable", "other")
"""What a latent site may be to an estimator; "other" has a log-probability and no more."""

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
    base = fn
    while isinstance(base, torch.distributions.Independent):
        base = base.base_dist
    if isinstance(base, torch.distributions.OneHotCategorical):
        return "OneHotCategorical"
    return "reparameterisable" if fn.has_rsample else "other"


def check_count(estimator: Any, num_particles: int) -> None:
    """Refuses a number of particles for which the estimator is not defined."""
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
        name = type(site["fn"]).__name__
        raise ValueError(
            f"site '{site['name']}': {type(estimator).__name__} has no gradient for a {name}; it "
            f"takes {' and '.join(estimator.sites)} sites. Use VIMCO or G4, which take any"
        )


def check_proposal(estimator: Any, model: Callable, guide: Callable) -> None:
    """Refuses a proposal for which the estimator's formula does not hold."""
    kind = proposal_kind(guide, model)
    if kind == "mixture" and "guide" not in estimator.proposals:
        parts = getattr(guide, "components", ())
        accepts = kind in estimator.proposals and any(
            proposal_kind(part, model) == "prior" for part in parts
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


def check_traces(estimator: Any, model_trace: Trace, guide_trace: Trace | None) -> None:
    """Refuses sites that would make weights or gradients wrong."""
    check_parameters(model_trace)
    if guide_trace is None:
        check_if_enumerated(model_trace)
        return
    check_parameters(guide_trace)
    check_if_enumerated(guide_trace)
    proposed = {site["name"] for site in sample_sites(guide_trace)}
    missing = [
        site["name"]
        for site in sample_sites(model_trace)
        if not site["is_observed"] and site["name"] not in proposed
    ]
    if missing:
        raise ValueError(
            f"the guide does not propose the latent site(s) {', '.join(map(repr, missing))} of "
            "the model: sample them in the guide, or use PriorProposal(model)"
        )
    _check_plates(model_trace, guide_trace)
    check_model_guide_match(model_trace, guide_trace)


def _check_plates(model_trace: Trace, guide_trace: Trace) -> None:
    """Refuses a guide whose plates are not the model's: weights would not be per datapoint."""
    for site in sample_sites(guide_trace):
        if site["name"] not in model_trace.nodes:
            continue
        other = model_trace.nodes[site["name"]]
        plates = [
            {frame.dim: frame.name for frame in one["cond_indep_stack"] if frame.vectorized}
            for one in (site, other)
        ]
        for dim in sorted(set(plates[0]) | set(plates[1])):
            in_guide, in_model = (repr(names[dim]) if dim in names else "none" for names in plates)
            if in_guide != in_model:
                raise ValueError(
                    f"site '{site['name']}' lies in plate {in_guide} in the guide and {in_model} "
                    f"in the model at dim {dim}: particles are weighted per element of the plates "
                    "that both share, so use the same plates in both"
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


def check_parameters(trace: Trace) -> None:
    """Refuses a parameter that the global store holds under the same name for another model.

    SVI would then update the other model's parameter and leave this one as it is.
    """
    if pyro.settings.get("module_local_params") or not torch.is_grad_enabled():
        return
    store = pyro.get_param_store()
    for site in trace.nodes.values():
        if site["type"] != "param" or len(site["args"]) < 2 or site["name"] not in store:
            continue
        own, stored = site["args"][1], store._params[site["name"]]
        if isinstance(own, torch.nn.Parameter) and own is not stored:
            raise ValueError(
                f"parameter '{site['name']}' in Pyro's global store belongs to another model, "
                "which SVI would train instead of this one: give the root module a name of its "
                "own, or call pyro.clear_param_store() before training another model"
            )


def _describe(guide: Any, kind: str) -> str:
    if kind == "prior":
        return "the model's prior"
    if hasattr(guide, "prior_of"):
        return "the prior of another model"
    if kind == "mixture":
        return "a mixture that does not hold it"
    return getattr(guide, "__name__", type(guide).__name__)
