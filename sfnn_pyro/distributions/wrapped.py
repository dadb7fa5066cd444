"""What stands inside ``to_event``, ``mask`` and ``expand_by``, and how to put another law there."""

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from pyro.distributions import Delta
from pyro.distributions.torch_distribution import (
    ExpandedDistribution,
    MaskedDistribution,
    TorchDistribution,
)
from torch import Size, Tensor
from torch.distributions import constraints

from sfnn_pyro.distributions.constant import ConstantSample


class Rescored(TorchDistribution):
    """A distribution that is drawn as it is and has another way to its log-probability.

    Arguments:
        base_dist: the distribution; what a subclass computes from it is ``_log_prob``.
    """

    arg_constraints: ClassVar[dict] = {}
    has_rsample = False

    def __init__(self, base_dist: Any) -> None:
        self.base_dist = base_dist
        super().__init__(base_dist.batch_shape, base_dist.event_shape, validate_args=False)
        self._validate_args = base_dist._validate_args

    @property
    def support(self) -> constraints.Constraint:
        return self.base_dist.support

    @property
    def has_enumerate_support(self) -> bool:
        return self.base_dist.has_enumerate_support

    @property
    def mean(self) -> Tensor:
        return self.base_dist.mean

    @property
    def variance(self) -> Tensor:
        return self.base_dist.variance

    def enumerate_support(self, expand: bool = True) -> Tensor:
        return self.base_dist.enumerate_support(expand=expand)

    def expand(self, batch_shape: Size, _instance: None = None) -> "Rescored":
        return type(self)(self.base_dist.expand(batch_shape))

    def sample(self, sample_shape: Size = torch.Size()) -> Tensor:
        return self.base_dist.sample(sample_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self.base_dist._validate_sample(value)
        return self._log_prob(
            value.to(torch.get_default_dtype()) if value.dtype is torch.bool else value
        )

    def _log_prob(self, value: Tensor) -> Tensor:
        raise NotImplementedError


def base_of(fn: Any) -> Any:
    """The distribution of one element, without ``to_event``, ``mask`` and ``expand_by``.

    Example:
        >>> import pyro.distributions as dist, torch
        >>> type(base_of(dist.Bernoulli(torch.ones(3) / 2).mask(True).to_event(1))).__name__
        'Bernoulli'
    """
    while _wraps(type(fn)):
        fn = fn.base_dist
    return fn


_WRAPS: dict[type, bool] = {}
"""By class; asked at every site of every step."""


def _wraps(kind: type) -> bool:
    """Whether a class stands around another distribution."""
    if kind not in _WRAPS:
        wrappers = (
            torch.distributions.Independent,
            MaskedDistribution,
            ExpandedDistribution,
            ConstantSample,
            Rescored,
        )
        _WRAPS[kind] = issubclass(kind, wrappers)
    return _WRAPS[kind]


def with_base(fn: Any, make: Callable[[Any], Any]) -> Any:
    """The same wrappers around another distribution of one element.

    Arguments:
        fn: a distribution, perhaps wrapped.
        make: given the base of ``fn``, what takes its place; of the same batch and event shape.

    Example:
        >>> import pyro.distributions as dist, torch
        >>> fn = with_base(dist.Normal(0.0, torch.ones(3)).to_event(1),
        ...                lambda base: dist.Laplace(base.loc, base.scale))
        >>> fn.event_shape, type(base_of(fn)).__name__
        (torch.Size([3]), 'Laplace')
    """
    if isinstance(fn, torch.distributions.Independent):
        return with_base(fn.base_dist, make).to_event(fn.reinterpreted_batch_ndims)
    if isinstance(fn, MaskedDistribution):
        return with_base(fn.base_dist, make).mask(fn._mask)
    if isinstance(fn, ExpandedDistribution):
        return with_base(fn.base_dist, make).expand(fn.batch_shape)
    if isinstance(fn, ConstantSample):
        return ConstantSample(with_base(fn.base_dist, make))
    if isinstance(fn, Rescored):
        return make(fn.base_dist)
    return make(fn)


def law_of(fn: Any) -> Any:
    """The law that a sample is drawn from: the distribution without any ``mask``.

    A mask changes what a draw counts in a log-weight, not how it is drawn, so that its score is
    that of the distribution without it.

    Example:
        >>> import pyro.distributions as dist, torch
        >>> fn = dist.Bernoulli(torch.tensor([0.5, 0.5])).mask(torch.tensor([True, False]))
        >>> fn.log_prob(torch.ones(2)).exp(), law_of(fn).log_prob(torch.ones(2)).exp()
        (tensor([0.5000, 1.0000]), tensor([0.5000, 0.5000]))
    """
    if not _wraps(type(fn)):
        return fn
    if isinstance(fn, MaskedDistribution):
        return law_of(fn.base_dist)
    if isinstance(fn, torch.distributions.Independent):
        law = law_of(fn.base_dist)
        return fn if law is fn.base_dist else law.to_event(fn.reinterpreted_batch_ndims)
    if isinstance(fn, ExpandedDistribution | ConstantSample):
        law = law_of(fn.base_dist)
        return fn if law is fn.base_dist else law.expand(fn.batch_shape)
    return fn


def is_masked(fn: Any) -> bool:
    """Whether some ``mask`` stands within a distribution."""
    return law_of(fn) is not fn


def has_law_of(kind: type, known: Any) -> bool:
    """Whether a class is a distribution of Pyro, or PyTorch's of the same name, as it is.

    A subclass that draws or scores in its own way is another law.

    Example:
        >>> import pyro.distributions as dist
        >>> class Tilted(dist.Bernoulli):
        ...     def log_prob(self, value): ...
        >>> has_law_of(torch.distributions.Bernoulli, dist.Bernoulli)
        True
        >>> has_law_of(Tilted, dist.Bernoulli)
        False
    """
    if (kind, known) not in _LAWS:
        _LAWS[kind, known] = _is_of_law(kind, known)
    return _LAWS[kind, known]


_LAWS: dict[tuple[type, Any], bool] = {}
"""By class and law; asked at every site of every step."""


def _is_of_law(kind: type, known: Any) -> bool:
    of_torch = getattr(torch.distributions, known.__name__, known)
    if not issubclass(kind, of_torch):
        return False
    own = (kind.log_prob, kind.sample)  # type: ignore[attr-defined]
    return any(own == (plain.log_prob, plain.sample) for plain in (known, of_torch))


def masks_of(fn: Any, mask: Any = None) -> list[Tensor]:
    """The masks on a value, ``mask`` of its site and those within, broadcastable to the value.

    Example:
        >>> import pyro.distributions as dist, torch
        >>> fn = dist.Normal(0.0, torch.ones(3)).mask(torch.tensor([True, False, True]))
        >>> [one.shape for one in masks_of(fn.to_event(1), torch.tensor(True))]
        [torch.Size([1]), torch.Size([3])]
    """
    found = []
    if mask is not None:
        found.append(_over_events(mask, fn.event_dim))
    while isinstance(fn, torch.distributions.Independent | MaskedDistribution):
        if isinstance(fn, MaskedDistribution):
            found.append(_over_events(fn._mask, fn.base_dist.event_dim))
        fn = fn.base_dist
    return found


def _over_events(mask: Any, event_dim: int) -> Tensor:
    mask = torch.as_tensor(mask)
    return mask.reshape(mask.shape + (1,) * event_dim)


def is_point(fn: Any) -> bool:
    """Whether a distribution is a point mass, a ``Delta``."""
    return isinstance(base_of(fn), Delta)


def name_of(fn: Any) -> str:
    """The name of a distribution for a message: that of its base.

    Example:
        >>> import pyro.distributions as dist
        >>> name_of(dist.Poisson(1.0).expand([3]).to_event(1))
        'Poisson'
    """
    return type(base_of(fn)).__name__
