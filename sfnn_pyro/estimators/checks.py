"""What makes a pair of model and guide unfit for an estimator, said before it does harm."""

from collections.abc import Callable
from typing import Any

import pyro
import torch
from pyro.poutine import Trace
from pyro.util import check_if_enumerated, check_model_guide_match

from sfnn_pyro.sites import sample_sites


def check_proposal(estimator: Any, model: Callable, guide: Callable) -> None:
    """Refuses a proposal for which the estimator's formula does not hold."""
    if estimator.proposals == "prior" and getattr(guide, "prior_of", None) is not model:
        name = type(estimator).__name__
        raise ValueError(
            f"{name} needs PriorProposal(model) as its guide, of the same model, and got "
            f"{_describe(guide)}: {estimator.why_prior}; use G4 with other proposals"
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
    check_model_guide_match(model_trace, guide_trace)


def check_parameters(trace: Trace) -> None:
    """Refuses a parameter that the global store holds under the same name for another model.

    SVI would then update the other model's parameter and leave this one as it is.
    """
    if pyro.settings.get("module_local_params"):
        return
    store = pyro.get_param_store()
    for site in trace.nodes.values():
        if site["type"] != "param" or len(site["args"]) < 2 or site["name"] not in store:
            continue
        own, stored = site["args"][1], store._params[site["name"]]
        if isinstance(own, torch.nn.Parameter) and own is not stored:
            raise ValueError(
                f"parameter '{site['name']}' in Pyro's global store belongs to another model, "
                "which SVI would train instead of this one: call pyro.clear_param_store() "
                "first, or pyro.settings.set(module_local_params=True)"
            )


def _describe(guide: Any) -> str:
    if hasattr(guide, "prior_of"):
        return "the prior of another model"
    return getattr(guide, "__name__", type(guide).__name__)
