"""Units and one-hot choices drawn by Gumbel noise, with the slope of their relaxation."""

import torch
from torch import Size, Tensor

from sfnn_pyro.distributions.one_hot import PathwiseOneHot
from sfnn_pyro.distributions.units import BernoulliUnits


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
        logits: Tensor,
        event_dim: int,
        batch_shape: Size | list[int] | None = None,
        temperature: float = 1.0,
    ) -> None:
        super().__init__(logits, event_dim, batch_shape)
        self.temperature = temperature

    def expand(self, batch_shape: Size, _instance: None = None) -> "GumbelThroughUnits":
        units = GumbelThroughUnits(self.logits, self.event_dim, batch_shape, self.temperature)
        units._probs, units._validate_args = self._probs, self._validate_args
        return units

    def rsample(self, sample_shape: Size = Size()) -> Tensor:
        shape = self._extended_shape(sample_shape)
        noise = torch.rand(shape, dtype=self.logits.dtype, device=self.logits.device)
        z = self.logits + torch.logit(noise, eps=torch.finfo(noise.dtype).tiny)
        relaxed = torch.sigmoid(z / self.temperature)
        return (z > 0).to(relaxed) + (relaxed - relaxed.detach())


class GumbelThroughOneHot(PathwiseOneHot):
    r"""A one-hot draw by Gumbel noise, with the slope of the tempered softmax.

    Example:
        >>> import torch
        >>> h = GumbelThroughOneHot(torch.zeros(3, requires_grad=True)).rsample()
        >>> h.requires_grad, h.sum().item()
        (True, 1.0)
    """

    def __init__(self, logits: Tensor, temperature: float = 1.0) -> None:
        super().__init__(logits)
        self.temperature = temperature

    def expand(self, batch_shape: Size, _instance: None = None) -> "GumbelThroughOneHot":
        logits = self.base_dist.logits
        return GumbelThroughOneHot(logits.expand(*batch_shape, -1), self.temperature)

    def rsample(self, sample_shape: Size = Size()) -> Tensor:
        logits = self.base_dist.logits
        noise = torch.empty(
            self._extended_shape(sample_shape), dtype=logits.dtype, device=logits.device
        )
        z = logits - noise.exponential_().log()
        relaxed = torch.softmax(z / self.temperature, -1)
        hard = torch.nn.functional.one_hot(z.argmax(-1), z.shape[-1]).to(relaxed)
        return hard + (relaxed - relaxed.detach())
