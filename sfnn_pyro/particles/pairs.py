"""What makes a model and a guide unfit for each other, said before it does harm."""

from collections.abc import Callable

import torch
from pyro.poutine import Trace
from pyro.util import check_if_enumerated, check_model_guide_match

from sfnn_pyro.distributions.wrapped import is_point
from sfnn_pyro.particles.terms import carries_log_prob, is_drawn, is_recorded, sample_sites


def check_pair(
    model_trace: Trace, guide_trace: Trace | None, partial: bool, again: Callable[[], Trace]
) -> None:
    """Refuses a model and a guide whose sites would make weights or gradients wrong.

    Arguments:
        model_trace: of the model.
        guide_trace: of the guide, or None for the model's prior.
        partial: whether the prior proposes the latents that the guide does not have.
        again: runs the guide once more, with a graph through its auxiliary sites.
    """
    if guide_trace is None:
        check_if_enumerated(model_trace)
        return
    check_if_enumerated(guide_trace)
    proposed = {site["name"] for site in sample_sites(guide_trace)}
    missing = [
        site["name"]
        for site in sample_sites(model_trace)
        if not site["is_observed"] and site["name"] not in proposed
    ]
    if missing and not partial:
        raise ValueError(
            f"the guide does not propose the latent site(s) {', '.join(map(repr, missing))} of "
            "the model: sample them in the guide, or use PriorProposal(model), or "
            "PartialProposal(model, guide), which proposes them from the prior"
        )
    _check_auxiliary(model_trace, guide_trace, again)
    _check_plates(model_trace, guide_trace)
    recorded = [name for name, site in guide_trace.nodes.items() if is_recorded(site)]
    check_model_guide_match(_without(model_trace, missing), _without(guide_trace, recorded))


def _without(trace: Trace, names: list[str]) -> Trace:
    if not names:
        return trace
    trace = trace.copy()
    for name in names:
        trace.remove_node(name)
    return trace


def _check_auxiliary(model_trace: Trace, guide_trace: Trace, again: Callable[[], Trace]) -> None:
    """Refuses a random auxiliary site that no latent of the model is a function of.

    An autoguide draws an auxiliary value and records the model's latents as functions of it, with
    ``Delta`` sites. A latent that is drawn *given* an auxiliary value has a density that sums over
    it, which the product of the two densities is not.
    """
    auxiliary = [
        site["name"]
        for site in sample_sites(guide_trace)
        if is_drawn(site) and site["infer"].get("is_auxiliary")
        if site["name"] not in model_trace.nodes
    ]
    if not auxiliary:
        return
    with torch.enable_grad():
        _check_reached(auxiliary, again().nodes)


def _check_reached(auxiliary: list[str], nodes: dict) -> None:
    points = [site["value"] for site in nodes.values() if _is_drawn_point(site)]
    reached = [point.sum() for point in points if point.requires_grad]
    for name in auxiliary:
        value = nodes[name]["value"]
        grads = [
            torch.autograd.grad(point, value, allow_unused=True, retain_graph=True)[0]
            for point in reached
            if value.requires_grad
        ]
        if all(grad is None for grad in grads):
            raise ValueError(
                f"site '{name}': an auxiliary latent of the guide that no latent of the "
                "model is a function of (a Delta site, as autoguides have) makes weights too "
                "large: sum it out of the guide, or give the model a site of this name"
            )


def _is_drawn_point(site: dict) -> bool:
    return carries_log_prob(site) and is_drawn(site) and is_point(site["fn"])


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
