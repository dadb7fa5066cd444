"""Reweighted wake-sleep: the model by G4, the guide by particles or by dreams."""

import inspect
from collections.abc import Callable
from typing import Any, Unpack

import torch
from pyro import poutine
from pyro.poutine.util import site_is_factor
from torch import Tensor

from sfnn_pyro.estimators.base import (
    Coefficients,
    Estimator,
    Options,
    learned_pulls,
    weighted_sum,
    with_gradient_of,
)
from sfnn_pyro.estimators.checks import check_whole
from sfnn_pyro.particles import (
    Fixed,
    Layout,
    Particles,
    SameMinibatch,
    components_of,
    proposal_kind,
    sample_sites,
    trace_program,
)
from sfnn_pyro.particles.draw import refuse_delta
from sfnn_pyro.particles.programs import forget_observations
from sfnn_pyro.particles.terms import is_drawn
from sfnn_pyro.particles.weights import responsibilities


class ReweightedWakeSleep(Estimator):
    r"""Trains model and guide in one step, each on its own objective.

    .. math::
        \theta: \sum_m \bar w_m \, \partial_\theta \log P(y, h_m | x), \qquad
        \phi: \sum_m \bar w_m \, \partial_\phi \log R_\phi(h_m | y, x)
        \;\text{ (wake)}, \quad
        \partial_\phi \log R_\phi(h' | y', x), \; (h', y') \sim P \;\text{ (sleep)}

    The model's gradient is that of ``G4``. The guide's wake phase lowers KL(P(h|y,x) || R) with
    the particles as targets; its sleep phase does so on the model's own dreams, where no weight
    is needed. Of a ``MixtureProposal`` every guide but the prior is trained, on all particles.
    A dream takes the place of the observations in the arguments, within dictionaries and lists
    too; a guide with an argument ``observations`` is given ``{site: dream}``, as Pyro does.

    References:
        Bornschein & Bengio, *Reweighted Wake-Sleep*, ICLR 2015, arXiv 1406.2751; Le et al.,
        *Revisiting Reweighted Wake-Sleep*, UAI 2019, arXiv 1805.10469.

    Arguments:
        num_particles: M, at least 1.
        insomnia: weight of the wake phase in the guide's gradient, 1 - insomnia that of the
            sleep phase; 1 for wake, 0 for sleep, in between for both. Named as in Pyro.
        num_sleep_particles: dreams of every datapoint in the sleep phase, at least 1.
        options: see ``Estimator``.

    Raises:
        ValueError: ``insomnia`` is out of range; the guide is the model's prior, which has
            nothing to learn; or, for the sleep phase, an observed site is not an argument, the
            model has a ``pyro.factor``, or the guide cannot be scored at a dream (an autoguide,
            a ``Delta``).

    Example:
        >>> import torch
        >>> from pyro.infer import SVI
        >>> from pyro.optim import SGD
        >>> from sfnn_pyro.guides import RecognitionNetwork
        >>> from sfnn_pyro.models import SFNN
        >>> model = SFNN([4, 3, 2])
        >>> elbo = ReweightedWakeSleep(num_particles=20, insomnia=0.5)
        >>> svi = SVI(model, RecognitionNetwork(model), SGD({"lr": 0.01}), elbo)
        >>> loss = svi.step(torch.zeros(5, 4), torch.ones(5, 2))
    """

    target = "likelihood"
    unbiased = False
    divisible = False
    trains_guide = True
    proposals = ("guide", "mixture")
    why_not = "the prior has nothing to learn; use G5, or G4"

    def __init__(
        self,
        num_particles: int = 20,
        *,
        insomnia: float = 1.0,
        num_sleep_particles: int = 1,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(num_particles, **options)
        if not 0 <= insomnia <= 1:
            raise ValueError(f"insomnia={insomnia}: must lie between 0 (sleep) and 1 (wake)")
        check_whole("num_sleep_particles", num_sleep_particles, 1)
        self.insomnia = insomnia
        self.num_sleep_particles = num_sleep_particles

    def coefficients(self, log_weight: Tensor) -> Coefficients:
        weight = responsibilities(log_weight)
        return Coefficients(observed=weight, latent=weight)

    def surrogate(self, particles: Particles, log_weight: Tensor) -> Tensor:
        model = super().surrogate(particles, log_weight)
        if self.insomnia == 0:
            return model
        weight = self.insomnia * responsibilities(log_weight)
        return model + weighted_sum(learned_pulls(particles, weight), particles.scale, log_weight)

    def differentiable_loss(
        self, model: Callable, guide: Callable, *args: Any, **kwargs: Any
    ) -> Tensor:
        loss = super().differentiable_loss(model, guide, *args, **kwargs)
        if self.insomnia == 1:
            return loss
        dreams = [self._sleep(model, guide, args, kwargs) for _ in range(self.num_sleep_particles)]
        sleep = (1 - self.insomnia) * torch.stack(dreams).mean()
        return with_gradient_of(loss, loss - sleep)

    def _sleep(self, model: Callable, guide: Callable, args: tuple, kwargs: dict) -> Tensor:
        """Log-density of one dream per datapoint under every guide that learns."""
        nesting = self._nesting(model, guide, args, kwargs)
        minibatch: dict[str, tuple[int, Tensor]] = {}
        with torch.no_grad(), SameMinibatch(minibatch, strict=True):
            dream = poutine.trace(poutine.uncondition(model)).get_trace(*args, **kwargs)
        sites = sample_sites(dream)
        _check_dream(sites)
        values = {s["name"]: s["value"] for s in sites if not s["infer"].get("was_observed")}
        total = torch.zeros(())
        for part in components_of(guide):
            if proposal_kind(part, model) == "prior":
                continue
            heard, named = _dreamt(sites, part, args, kwargs)
            with SameMinibatch(minibatch, strict=True), Fixed(values):
                trace = trace_program(part, heard, named, num_particles=None, plate_nesting=nesting)
            forget_observations(trace, dream, names={s["name"] for s in sites} - set(values))
            scored = sample_sites(trace)
            for site in scored:
                if is_drawn(site) and site["name"] not in values:
                    raise ValueError(
                        f"site '{site['name']}': the sleep phase cannot score a guide with a "
                        "latent of its own, as an autoguide has, at a dream of the model; use "
                        "insomnia=1"
                    )
                refuse_delta(site, "a dream of the model")
            layout = Layout.of(scored, nesting)
            terms = [layout.term(site) for site in scored]
            total = total + (sum(term.log_prob() for term in terms) * layout.scale).sum()
        return total


def _check_dream(sites: list[Any]) -> None:
    for site in sites:
        if site_is_factor(site):
            raise ValueError(
                f"site '{site['name']}': the sleep phase cannot draw from a model with a "
                "pyro.factor, which is no distribution; use insomnia=1"
            )


def _dreamt(
    sites: list[Any], guide: Callable, args: tuple, kwargs: dict
) -> tuple[tuple, dict[str, Any]]:
    """The guide's arguments, with every observation replaced by what was dreamt in its place."""
    observed = [site for site in sites if site["infer"].get("was_observed")]
    dreams = {id(site["infer"]["obs"]): site for site in observed}
    found: set[int] = set()

    def swap(value: Any) -> Any:
        if id(value) in dreams:
            found.add(id(value))
            return dreams[id(value)]["value"]
        if isinstance(value, dict):
            return {key: swap(one) for key, one in value.items()}
        if isinstance(value, list | tuple) and type(value) in (list, tuple):
            return type(value)(map(swap, value))
        return value

    args, kwargs = tuple(map(swap, args)), {name: swap(value) for name, value in kwargs.items()}
    if _accepts_observations(guide):
        kwargs["observations"] = {site["name"]: site["value"] for site in observed}
        return args, kwargs
    for key, site in dreams.items():
        if key not in found:
            raise ValueError(
                f"the sleep phase hands the guide a dreamt '{site['name']}', but what is observed "
                "there is no argument of the model: pass the observation as an argument, give the "
                "guide an argument 'observations', or use insomnia=1"
            )
    return args, kwargs


def _accepts_observations(guide: Callable) -> bool:
    call = guide.forward if isinstance(guide, torch.nn.Module) else guide
    try:
        return "observations" in inspect.signature(call).parameters
    except (TypeError, ValueError):  # a callable of C has no signature
        return False
