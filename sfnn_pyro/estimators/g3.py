"""G3: straight through a unit with the slope of its sigmoid."""

from typing import Any, ClassVar

import torch
from torch import Tensor

from sfnn_pyro.estimators.base import Coefficients, Estimator
from sfnn_pyro.estimators.checks import SiteKind, check_site
from sfnn_pyro.particles import Particles, SiteTerm
from sfnn_pyro.particles.proposals import ProposalKind
from sfnn_pyro.particles.weights import responsibilities
from sfnn_pyro.reparam import StraightThroughReparam, UnitsReparam, is_bernoulli


class G3(Estimator):
    r"""Back-propagation through binary units with the noise held constant: biased, low variance.

    .. math::
        h_i = \sigma(a_i) + \epsilon_i, \qquad
        G_3(a_i) := \sigma'(a_i) \, \partial \hat C_M / \partial h_i

    The best of the paper's five on its benchmarks. Prefer ``G4`` or ``VIMCO`` where the bias
    matters, where latents are not Bernoulli, or with a proposal other than the prior.

    References:
        Raiko et al., ICLR 2015, eqs. 20 to 22.

    Arguments:
        num_particles: M, at least 1.
        options: see ``Estimator``.

    Raises:
        ValueError: the guide is not the model's prior, or a discrete latent is not Bernoulli.

    Example:
        >>> import torch
        >>> from pyro.infer import SVI
        >>> from pyro.optim import SGD
        >>> from sfnn_pyro.guides import PriorProposal
        >>> from sfnn_pyro.models import SFNN
        >>> model = SFNN([4, 3, 2])
        >>> svi = SVI(model, PriorProposal(model), SGD({"lr": 0.01}), G3(num_particles=20))
        >>> loss = svi.step(torch.zeros(5, 4), torch.ones(5, 2))
    """

    target = "objective"
    unbiased = False
    proposals: tuple[ProposalKind, ...] = ("prior",)
    sites: tuple[SiteKind, ...] = ("Bernoulli", "reparameterisable")
    why_not = "its gradient passes through particles drawn from the model; use VIMCO or G4"
    pathwise = True
    responsibility_weighted = True
    reparam: ClassVar[type[StraightThroughReparam]] = StraightThroughReparam

    def strategy(self, site: Any) -> Any:
        if site["is_observed"]:
            return UnitsReparam() if is_bernoulli(site["fn"]) else None
        check_site(self, site)
        return None if site["fn"].has_rsample else self.relaxation()

    def relaxation(self) -> Any:
        """The reparameterizer of discrete latent sites."""
        return self.reparam()

    def coefficients(self, log_weight: Tensor) -> Coefficients:
        return Coefficients(observed=responsibilities(log_weight))

    def draw(self, *args: Any, **options: Any) -> Particles:
        particles = super().draw(*args, **options)
        if torch.is_grad_enabled():
            check_paths(particles)
        return particles


def check_paths(particles: Particles) -> None:
    """Refuses a latent that could have a path for its gradient and was drawn without one."""
    for term in (term for part in particles.components for term in part.terms):
        if not (isinstance(term, SiteTerm) and term.drawn):
            continue
        if not term.value.requires_grad and term.learnable:
            raise ValueError(
                f"site '{term.name}' was drawn without a graph (under torch.no_grad, or detached): "
                "its parameters would get no gradient; draw it with one, or use VIMCO"
            )
