"""Strategies for Bernoulli latent sites, as Pyro reparameterizers.

One model, several treatments: drawn with a score (the default), drawn with a straight-through
gradient (G2, G3), or replaced by their mean (the deterministic network A).
"""

from collections.abc import Callable
from typing import Any, ClassVar

import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.distributions.torch_distribution import TorchDistribution
from pyro.infer.reparam.reparam import Reparam
from torch.distributions import constraints

from sfnn_pyro.constant import ConstantSample
from sfnn_pyro.units import BernoulliUnits, IdentityThroughUnits, StraightThroughUnits


def is_bernoulli(fn: Any) -> bool:
    """Whether a distribution is a Bernoulli, with or without ``to_event`` or ``expand``."""
    while isinstance(fn, torch.distributions.Independent):
        fn = fn.base_dist
    return isinstance(fn, torch.distributions.Bernoulli | BernoulliUnits)


def bernoulli_logits(fn: Any) -> torch.Tensor:
    """Logits of a Bernoulli, whichever way it was parameterised."""
    while isinstance(fn, torch.distributions.Independent):
        fn = fn.base_dist
    return fn.logits


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
                f"site '{msg['name']}': {type(fn).__name__} has no straight-through sample; "
                f"{type(self).__name__} takes Bernoulli sites, G4 and VIMCO any discrete site"
            )
        units = self.units(bernoulli_logits(fn), fn.event_dim, fn.batch_shape)
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


class GumbelThroughUnits(BernoulliUnits):
    r"""Bernoulli units drawn by logistic noise, with the slope of the tempered sigmoid.

    .. math:: h = 1[z > 0], \quad \partial h / \partial a := \sigma'(z / \tau) / \tau

    Example:
        >>> import torch
        >>> a = torch.zeros(2, requires_grad=True)
        >>> h = GumbelThroughUnits(a, event_dim=1).rsample()
        >>> h.sum().backward()
        >>> bool((a.grad > 0).all()), set(h.tolist()) <= {0.0, 1.0}
        (True, True)
    """

    has_rsample = True

    def __init__(
        self,
        logits: torch.Tensor,
        event_dim: int,
        batch_shape: torch.Size | list[int] | None = None,
        temperature: float = 1.0,
    ) -> None:
        super().__init__(logits, event_dim, batch_shape)
        self.temperature = temperature

    def expand(self, batch_shape: torch.Size, _instance: None = None) -> "GumbelThroughUnits":
        return GumbelThroughUnits(self.logits, self.event_dim, batch_shape, self.temperature)

    def rsample(self, sample_shape: torch.Size = torch.Size()) -> torch.Tensor:
        shape = self._extended_shape(sample_shape)
        noise = torch.rand(shape, dtype=self.logits.dtype, device=self.logits.device)
        z = self.logits + torch.logit(noise, eps=torch.finfo(noise.dtype).tiny)
        relaxed = torch.sigmoid(z / self.temperature)
        return (z > 0).to(relaxed) + (relaxed - relaxed.detach())


class GumbelThroughOneHot(TorchDistribution):
    r"""A one-hot draw by Gumbel noise, with the slope of the tempered softmax.

    Example:
        >>> import torch
        >>> h = GumbelThroughOneHot(torch.zeros(3, requires_grad=True)).rsample()
        >>> h.requires_grad, h.sum().item()
        (True, 1.0)
    """

    arg_constraints: ClassVar[dict] = {}
    has_rsample = True

    def __init__(self, logits: torch.Tensor, temperature: float = 1.0) -> None:
        self.base_dist = dist.OneHotCategorical(logits=logits, validate_args=False)
        self.temperature = temperature
        super().__init__(
            self.base_dist.batch_shape, self.base_dist.event_shape, validate_args=False
        )

    @property
    def support(self) -> constraints.Constraint:
        return self.base_dist.support

    def expand(self, batch_shape: torch.Size, _instance: None = None) -> "GumbelThroughOneHot":
        logits = self.base_dist.logits
        return GumbelThroughOneHot(logits.expand(*batch_shape, -1), self.temperature)

    def rsample(self, sample_shape: torch.Size = torch.Size()) -> torch.Tensor:
        logits = self.base_dist.logits
        noise = torch.empty(
            self._extended_shape(sample_shape), dtype=logits.dtype, device=logits.device
        )
        z = logits - noise.exponential_().log()
        relaxed = torch.softmax(z / self.temperature, -1)
        hard = torch.nn.functional.one_hot(z.argmax(-1), z.shape[-1]).to(relaxed)
        return hard + (relaxed - relaxed.detach())

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        return self.base_dist.log_prob(value)


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
        if not temperature > 0:
            raise ValueError(f"temperature={temperature}: must be positive")
        self.temperature = temperature

    def apply(self, msg: Any) -> Any:
        fn = msg["fn"]
        units: TorchDistribution
        if is_bernoulli(fn):
            units = GumbelThroughUnits(
                bernoulli_logits(fn), fn.event_dim, fn.batch_shape, self.temperature
            )
        else:
            one_hot, sums = fn, 0
            while isinstance(one_hot, torch.distributions.Independent):
                sums += one_hot.reinterpreted_batch_ndims
                one_hot = one_hot.base_dist
            if not isinstance(one_hot, torch.distributions.OneHotCategorical):
                raise ValueError(
                    f"site '{msg['name']}': {type(fn).__name__} has no Gumbel sample; "
                    "GumbelThroughReparam takes Bernoulli and OneHotCategorical sites, G4 and "
                    "VIMCO any discrete site"
                )
            units = GumbelThroughOneHot(one_hot.logits, self.temperature).to_event(sums)
        return {"fn": units, "value": msg["value"], "is_observed": msg["is_observed"]}


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
                f"site '{msg['name']}': the mean of a {type(fn).__name__} is not one of its "
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
