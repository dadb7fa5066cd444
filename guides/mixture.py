"""Two proposals that share the particles."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from sfnn_pyro.particles.proposals import MixtureOf, check_program


class MixtureProposal(torch.nn.Module, MixtureOf):
    r"""A share of the particles from the prior, the rest from another guide.

    .. math::
        R(h) = \frac{M_0}{M} P(h | x) + \frac{M_1}{M} R_1(h | y, x), \qquad
        w_m = \frac{P(y | h_m) P(h_m | x)}{R(h_m)}

    The split is fixed (stratified) and every particle is weighted as if it came from the mixture,
    whichever guide drew it: the balance heuristic. No weight exceeds M/M_0 times that of the
    prior, so a guide that has learnt nothing yet, or the wrong thing, does bounded harm.

    Understood by the estimators of this package, not by Pyro's own losses.

    References:
        Veach & Guibas, *Optimally Combining Sampling Techniques for Monte Carlo Rendering*,
        SIGGRAPH 1995; Hesterberg, *Weighted Average Importance Sampling and Defensive Mixture
        Distributions*, 1995; suggested at the end of Raiko et al., ICLR 2015.

    Arguments:
        prior: ``PriorProposal(model)``, or any guide.
        guide: another guide; its parameters are the mixture's.
        share: of the particles, for the first; in (0, 1).

    Raises:
        ValueError: ``share`` is out of range, or there is a single particle to share.

    Example:
        >>> import torch
        >>> from sfnn_pyro.estimators import G5
        >>> from sfnn_pyro.guides import PriorProposal, RecognitionNetwork
        >>> from sfnn_pyro.models import SFNN
        >>> model = SFNN([4, 3, 2])
        >>> guide = MixtureProposal(PriorProposal(model), RecognitionNetwork(model), share=0.25)
        >>> guide.counts(20)
        (5, 15)
        >>> loss = G5(num_particles=20)(model, guide)(torch.zeros(5, 4), torch.ones(5, 2))
    """

    def __init__(
        self, prior: Callable[..., Any], guide: Callable[..., Any], share: float = 0.5
    ) -> None:
        super().__init__()
        if not 0 < share < 1:
            raise ValueError(f"share={share}: must lie between 0 and 1")
        check_program("prior", prior)
        check_program("guide", guide)
        self.prior, self.guide, self.share = prior, guide, share

    @property
    def components(self) -> Sequence[Callable[..., Any]]:
        """The guides, in the order of their particles."""
        return self.prior, self.guide

    def counts(self, num_particles: int) -> tuple[int, int]:
        """How many of the particles each guide draws: at least one."""
        if num_particles < 2:
            raise ValueError(
                f"num_particles={num_particles}: a MixtureProposal needs at least 2 to share"
            )
        first = min(max(round(self.share * num_particles), 1), num_particles - 1)
        return first, num_particles - first

    def forward(self, *args: Any, **kwargs: Any) -> None:
        """Refuses: the density of a stratified mixture is not that of any single run."""
        raise ValueError(
            "a MixtureProposal is a proposal for the estimators of sfnn_pyro, which run its "
            "components; it cannot be run as a guide itself"
        )
