"""Strategies for Bernoulli latent sites, as Pyro reparameterizers.

One model, several treatments: drawn with a score (the default), drawn with a straight-through
gradient (G2, G3), or replaced by their mean (the deterministic network A).
"""

from collections.abc import Callable
from typing import Any, ClassVar

import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer.reparam.reparam import Reparam

from sfnn_pyro.distributions.averaged import GumbelRaoOneHot, GumbelRaoUnits
from sfnn_pyro.distributions.constant import ConstantSample
from sfnn_pyro.distributions.limits import units_at_limits
from sfnn_pyro.distributions.relaxed import GumbelThroughOneHot, GumbelThroughUnits
from sfnn_pyro.distributions.second_order import ReinMaxOneHot, ReinMaxUnits
from sfnn_pyro.distributions.units import BernoulliUnits, IdentityThroughUnits, StraightThroughUnits
from sfnn_pyro.distributions.wrapped import base_of, has_law_of, name_of, with_base


def is_bernoulli(fn: Any) -> bool:
    """Whether a distribution is a Bernoulli, with or without ``to_event`` or ``expand``."""
    kind = type(base_of(fn))
    return issubclass(kind, BernoulliUnits) or has_law_of(kind, dist.Bernoulli)


def bernoulli_logits(fn: Any) -> torch.Tensor:
    """Logits of a Bernoulli, whichever way it was parameterised."""
    return base_of(fn).logits


class UnitsReparam(Reparam):
    """Replaces a Bernoulli given by logits by the lazy ``BernoulliUnits`` of the same law.

    Nothing changes but the cost. Any other distribution is left as it is.

    Example:
        >>> import pyro, pyro.distributions as dist, torch
        >>> from pyro import poutine
        >>> with poutine.reparam(config=lambda site: UnitsReparam()):
        ...     h = pyro.sample("h", dist.Bernoulli(logits=torch.zeros(3)).to_event(1))
        >>> h.shape
        torch.Size([3])
    """

    def apply(self, msg: Any) -> Any:
        return {
            "fn": BernoulliUnits.of(msg["fn"]) or msg["fn"],
            "value": msg["value"],
            "is_observed": msg["is_observed"],
        }


def lazy_units(site: Any) -> Reparam | None:
    """A ``poutine.reparam`` configuration: the lazy form of every Bernoulli site.

    Example:
        >>> import pyro, pyro.distributions as dist, torch
        >>> from pyro import poutine
        >>> with poutine.reparam(config=lazy_units):
        ...     pyro.sample("h", dist.Bernoulli(logits=torch.tensor(-1e4)))
        tensor(0.)
    """
    return UnitsReparam() if is_bernoulli(site["fn"]) else None


class ExactUnitsReparam(Reparam):
    """Makes a Bernoulli given by logits exact where these are infinite.

    ``BernoulliUnits`` are too, and cheaper; this one has second derivatives.

    Example:
        >>> import pyro, pyro.distributions as dist, torch
        >>> from pyro import poutine
        >>> with poutine.trace() as tracer, poutine.reparam(config=exact_units):
        ...     h = pyro.sample("h", dist.Bernoulli(logits=torch.tensor(-torch.inf)))
        >>> tracer.trace.nodes["h"]["fn"].log_prob(h)
        tensor(0.)
    """

    def apply(self, msg: Any) -> Any:
        return {
            "fn": units_at_limits(msg["fn"]),
            "value": msg["value"],
            "is_observed": msg["is_observed"],
        }


def exact_units(site: Any) -> Reparam | None:
    """A ``poutine.reparam`` configuration: every Bernoulli site exact at its limits."""
    return ExactUnitsReparam() if is_bernoulli(site["fn"]) else None


class ConstantSampleReparam(Reparam):
    """Draws a reparameterisable latent without a path for gradients.

    For estimators whose particles are held constant.

    Example:
        >>> import pyro, pyro.distributions as dist, torch
        >>> from pyro import poutine
        >>> loc = torch.zeros(3, requires_grad=True)
        >>> with poutine.reparam(config={"z": ConstantSampleReparam()}):
        ...     z = pyro.sample("z", dist.Normal(loc, 1).to_event(1))
        >>> z.requires_grad
        False
    """

    def apply(self, msg: Any) -> Any:
        return {
            "fn": ConstantSample(msg["fn"]),
            "value": msg["value"],
            "is_observed": msg["is_observed"],
        }


class StraightThroughReparam(Reparam):
    r"""Gives a Bernoulli latent site a differentiable sample, :math:`h = \sigma(a) + \epsilon`.

    The noise is held constant: :math:`\partial h / \partial a := \sigma'(a)`. This is the
    relaxation of G3, which the estimator applies by itself; by hand it turns any Pyro model into
    one whose Bernoulli sites are (biasedly) reparameterised.

    References:
        Raiko et al., ICLR 2015, eqs. 20 to 22.

    Raises:
        ValueError: the site is not a Bernoulli.

    Example:
        >>> import pyro, pyro.distributions as dist, torch
        >>> from pyro import poutine
        >>> a = torch.zeros(3, requires_grad=True)
        >>> with poutine.reparam(config={"h": StraightThroughReparam()}):
        ...     h = pyro.sample("h", dist.Bernoulli(logits=a).to_event(1))
        >>> h.sum().backward()
        >>> a.grad
        tensor([0.2500, 0.2500, 0.2500])
    """

    units: ClassVar[type[StraightThroughUnits]] = StraightThroughUnits

    def apply(self, msg: Any) -> Any:
        fn = msg["fn"]
        if not is_bernoulli(fn):
            raise ValueError(
                f"site '{msg['name']}': {name_of(fn)} has no straight-through sample; "
                f"{type(self).__name__} takes Bernoulli sites, G4 and VIMCO any discrete site"
            )
        units = self.units.in_place_of(fn)
        return {"fn": units, "value": msg["value"], "is_observed": msg["is_observed"]}


class IdentityThroughReparam(StraightThroughReparam):
    r"""Gives a Bernoulli latent site a sample of slope one, :math:`\partial h/\partial a := 1`.

    The relaxation of G2; ``StraightThroughReparam`` is less biased.

    References:
        Bengio, Léonard, Courville, 2013; Raiko et al., ICLR 2015, eq. 19.

    Example:
        >>> import pyro, pyro.distributions as dist, torch
        >>> from pyro import poutine
        >>> a = torch.zeros(3, requires_grad=True)
        >>> with poutine.reparam(config={"h": IdentityThroughReparam()}):
        ...     h = pyro.sample("h", dist.Bernoulli(logits=a).to_event(1))
        >>> h.sum().backward()
        >>> a.grad
        tensor([1., 1., 1.])
    """

    units: ClassVar[type[StraightThroughUnits]] = IdentityThroughUnits


class GumbelThroughReparam(Reparam):
    r"""Gives a Bernoulli or one-hot latent site a Gumbel straight-through sample.

    References:
        Jang, Gu, Poole, *Categorical Reparameterization with Gumbel-Softmax*, ICLR 2017,
        arXiv 1611.01144.

    Arguments:
        temperature: tau, positive.

    Raises:
        ValueError: the temperature is not positive, or the site is of another kind.

    Example:
        >>> import pyro, pyro.distributions as dist, torch
        >>> from pyro import poutine
        >>> logits = torch.zeros(3, requires_grad=True)
        >>> with poutine.reparam(config={"k": GumbelThroughReparam(0.5)}):
        ...     k = pyro.sample("k", dist.OneHotCategorical(logits=logits))
        >>> k.sum().item(), k.requires_grad
        (1.0, True)
    """

    def __init__(self, temperature: float = 1.0) -> None:
        check_temperature(temperature)
        self.temperature = temperature

    def apply(self, msg: Any) -> Any:
        return _units_or_one_hot(
            self, msg, GumbelThroughUnits, GumbelThroughOneHot, self.temperature
        )


class GumbelRaoReparam(Reparam):
    r"""The same with the slope averaged over K relaxed draws that are rounded to the same value.

    References:
        Paulus, Maddison, Krause, *Rao-Blackwellizing the Straight-Through Gumbel-Softmax Gradient
        Estimator*, ICLR 2021, arXiv 2010.04838.

    Arguments:
        temperature: tau, positive.
        draws: K, at least 1.

    Raises:
        ValueError: the temperature is not positive, or the site is of another kind.

    Example:
        >>> import pyro, pyro.distributions as dist, torch
        >>> from pyro import poutine
        >>> logits = torch.zeros(3, requires_grad=True)
        >>> with poutine.reparam(config={"k": GumbelRaoReparam(0.5, draws=100)}):
        ...     k = pyro.sample("k", dist.OneHotCategorical(logits=logits))
        >>> k.sum().item(), k.requires_grad
        (1.0, True)
    """

    def __init__(self, temperature: float = 1.0, draws: int = 10) -> None:
        check_temperature(temperature)
        self.temperature = temperature
        self.draws = draws

    def apply(self, msg: Any) -> Any:
        options = self.temperature, self.draws
        return _units_or_one_hot(self, msg, GumbelRaoUnits, GumbelRaoOneHot, *options)


class ReinMaxReparam(Reparam):
    r"""Gives a Bernoulli or one-hot latent site a sample with the slope of the trapezoidal rule.

    References:
        Liu, Dong, Liu, Yu, Gao, *Bridging Discrete and Backpropagation: Straight-Through and
        Beyond*, NeurIPS 2023, arXiv 2304.08612.

    Arguments:
        blend: lambda, the share of the second-order slope; at 0 it is ``StraightThroughReparam``.

    Raises:
        ValueError: the site is of another kind.

    Example:
        >>> import pyro, pyro.distributions as dist, torch
        >>> from pyro import poutine
        >>> a = torch.zeros(3, requires_grad=True)
        >>> with poutine.reparam(config={"h": ReinMaxReparam()}):
        ...     h = pyro.sample("h", dist.Bernoulli(logits=a).to_event(1))
        >>> h.sum().backward()
        >>> a.grad  # abs(h - 1/2) / 2, whatever was drawn
        tensor([0.2500, 0.2500, 0.2500])
    """

    def __init__(self, blend: float = 1.0) -> None:
        self.blend = blend

    def apply(self, msg: Any) -> Any:
        return _units_or_one_hot(self, msg, ReinMaxUnits, ReinMaxOneHot, self.blend)


def check_temperature(temperature: float) -> None:
    """Refuses a temperature at which nothing can be relaxed."""
    if not temperature > 0:
        raise ValueError(f"temperature={temperature}: must be positive")


def _units_or_one_hot(reparam: Reparam, msg: Any, units: Any, one_hot: Any, *options: Any) -> Any:
    """A message whose law is drawn by one of two classes, or an error that names the site."""
    fn = msg["fn"]
    if is_bernoulli(fn):
        fn = units.in_place_of(fn, *options)
    elif isinstance(base_of(fn), torch.distributions.OneHotCategorical):
        fn = with_base(fn, lambda base: one_hot(base.logits, *options))
    else:
        sample = "Gumbel" if "Gumbel" in type(reparam).__name__ else "second-order"
        raise ValueError(
            f"site '{msg['name']}': {name_of(fn)} has no {sample} sample; "
            f"{type(reparam).__name__} takes Bernoulli and OneHotCategorical sites, G4 and "
            "VIMCO any discrete site"
        )
    return {"fn": fn, "value": msg["value"], "is_observed": msg["is_observed"]}


class MeanReparam(Reparam):
    r"""Replaces a Bernoulli latent site by its mean, :math:`h := \sigma(a)`.

    This is eq. 21 with the noise at zero: the deterministic network A of the paper.

    Example:
        >>> import pyro, pyro.distributions as dist, torch
        >>> from pyro import poutine
        >>> with poutine.reparam(config={"h": MeanReparam()}):
        ...     pyro.sample("h", dist.Bernoulli(logits=torch.zeros(2)).to_event(1))
        tensor([0.5000, 0.5000])
    """

    def apply(self, msg: Any) -> Any:
        fn = msg["fn"]
        if not is_bernoulli(fn):
            raise ValueError(
                f"site '{msg['name']}': the mean of a {name_of(fn)} is not one of its "
                "values' relaxations; MeanReparam takes Bernoulli sites"
            )
        mean = torch.sigmoid(bernoulli_logits(fn)).expand(fn.batch_shape + fn.event_shape)
        delta = dist.Delta(mean, event_dim=fn.event_dim, validate_args=False)
        return {"fn": delta, "value": mean, "is_observed": True}


def latent_bernoullis(reparam: Reparam) -> Callable[[Any], Reparam | None]:
    """A ``poutine.reparam`` configuration: this reparameterizer at every Bernoulli latent site.

    A site is latent unless it is observed, or says ``infer={"is_output": True}``: what a model
    predicts stays random when it is asked to predict.

    Example:
        >>> import pyro, pyro.distributions as dist, torch
        >>> from pyro import poutine
        >>> with poutine.reparam(config=latent_bernoullis(MeanReparam())):
        ...     pyro.sample("h", dist.Bernoulli(0.5))
        tensor(0.5000)
    """

    def config(site: Any) -> Reparam | None:
        latent = not (site["is_observed"] or site["infer"].get("is_output"))
        return reparam if latent and is_bernoulli(site["fn"]) else None

    return config


def deterministic(model: Callable[..., Any]) -> Callable[..., Any]:
    r"""The model with every Bernoulli latent replaced by its mean: the paper's network A.

    Arguments:
        model: a Pyro model; its parameters are shared, nothing is copied.

    Returns:
        The model under ``poutine.reparam``. It has no latent site left.

    Example:
        >>> import torch
        >>> from pyro import poutine
        >>> from sfnn_pyro.models import SFNN
        >>> a = deterministic(SFNN([4, 3, 2]))
        >>> poutine.trace(a).get_trace(torch.zeros(5, 4)).nodes["h1"]["is_observed"]
        True
    """
    return poutine.reparam(model, config=latent_bernoullis(MeanReparam()))
