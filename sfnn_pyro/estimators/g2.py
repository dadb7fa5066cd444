"""G2: straight through a unit with slope one."""

from typing import ClassVar

from sfnn_pyro.estimators.g3 import G3
from sfnn_pyro.reparam import IdentityThroughReparam, StraightThroughReparam


class G2(G3):
    r"""Back-propagation through binary units as if they were the identity: biased.

    .. math:: G_2(a_i) := \partial \hat C_M / \partial h_i

    Kept for comparison; ``G3`` is less biased at the same cost.

    References:
        Bengio, Léonard, Courville, 2013; Raiko et al., ICLR 2015, eq. 19.

    Arguments:
        num_particles: M, at least 1.
        options: see ``Estimator``.

    Raises:
        ValueError: the guide is not the model's prior, or a discrete latent is not Bernoulli.

    Example:
        >>> G2(num_particles=20).unbiased
        False
    """

    reparam: ClassVar[type[StraightThroughReparam]] = IdentityThroughReparam
