"""Reweighted wake-sleep: the model by G4, the guide by particles or by dreams."""

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from pyro import poutine
from torch import Tensor

from sfnn_pyro.estimators.base import Coefficients, Estimator, weighted_sum
from sfnn_pyro.particles import PARTICLE_PLATE, Particles, proposal_kind
from sfnn_pyro.sites import Layout, sample_sites
from sfnn_pyro.weights import responsibilities


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

    References:
        Bornschein & Bengio, *Reweighted Wake-Sleep*, ICLR 2015, arXiv 1406.2751; Le et al.,
        *Revisiting Reweighted Wake-Sleep*, UAI 2019, arXiv 1805.10469.

    Arguments:
        num_particles: M, at least 1.
        insomnia: weight of the wake phase in the guide's gradient, 1 - insomnia that of the
            sleep phase; 1 for wake, 0 for sleep, in between for both. Named as in Pyro.
        max_plate_nesting, vectorize_particles: see ``Estimator``.

    Raises:
        ValueError: ``insomnia`` is out of range; the guide is the model's prior, which has
            nothing to learn; or, for the sleep phase, an observed site is not an argument.

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

    target: ClassVar[str] = "likelihood"
    unbiased = False
    proposals: ClassVar[tuple[str, ...]] = ("guide", "mixture")
    why_not: ClassVar[str] = "the prior has nothing to learn; use G5, or G4"

    def __init__(
        self,
        num_particles: int = 20,
        *,
        insomnia: float = 1.0,
        max_plate_nesting: float = float("inf"),
        vectorize_particles: bool = True,
    ) -> None:
        super().__init__(
            num_particles,
            max_plate_nesting=max_plate_nesting,
            vectorize_particles=vectorize_particles,
        )
        if not 0 <= insomnia <= 1:
            raise ValueError(f"insomnia={insomnia}: must lie between 0 (sleep) and 1 (wake)")
        self.insomnia = insomnia

    def coefficients(self, log_weight: Tensor) -> Coefficients:
        weight = responsibilities(log_weight)
        return Coefficients(observed=weight, latent=weight)

    def surrogate(self, particles: Particles, log_weight: Tensor) -> Tensor:
        model = super().surrogate(particles, log_weight)
        if self.insomnia == 0:
            return model
        weight = self.insomnia * responsibilities(log_weight)
        learned = [(part.terms, weight) for part in particles.components if not part.is_prior]
        return model + weighted_sum(learned, particles.scale, log_weight)

    def differentiable_loss(
        self, model: Callable, guide: Callable, *args: Any, **kwargs: Any
    ) -> Tensor:
        loss = super().differentiable_loss(model, guide, *args, **kwargs)
        if self.insomnia == 1:
            return loss
        sleep = (1 - self.insomnia) * self._sleep(model, guide, args, kwargs)
        return loss + sleep.detach() - sleep

    def _sleep(self, model: Callable, guide: Callable, args: tuple, kwargs: dict) -> Tensor:
        """Log-density of one dream per datapoint under every guide that learns."""
        with torch.no_grad():
            dream = poutine.trace(poutine.uncondition(model)).get_trace(*args, **kwargs)
        args, kwargs = _dreamt(dream, args, kwargs)
        total = torch.zeros(())
        for part in getattr(guide, "components", [guide]):
            if proposal_kind(part, model) == "prior":
                continue
            replayed = poutine.replay(part, trace=dream)
            sites = sample_sites(poutine.trace(replayed).get_trace(*args, **kwargs))
            layout = Layout.of(sites, int(self.max_plate_nesting), PARTICLE_PLATE)
            terms = [layout.term(site) for site in sites]
            total = total + (sum(term.log_prob() for term in terms) * layout.scale).sum()
        return total


def _dreamt(dream: Any, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
    """The arguments, with every observation replaced by what was dreamt in its place."""
    dreams = {
        id(site["infer"]["obs"]): site
        for site in sample_sites(dream)
        if site["infer"].get("was_observed")
    }
    given = {id(value) for value in (*args, *kwargs.values())}
    for key, site in dreams.items():
        if key not in given:
            raise ValueError(
                f"the sleep phase hands the guide a dreamt '{site['name']}', but what is observed "
                "there is no argument of the model: pass the observation as an argument, or use "
                "insomnia=1"
            )

    def swap(value: Any) -> Any:
        return dreams[id(value)]["value"] if id(value) in dreams else value

    return tuple(map(swap, args)), {name: swap(value) for name, value in kwargs.items()}
