"""A loss that waits on the device until it is asked for."""

from collections.abc import Callable
from numbers import Number
from typing import Any

from pyro.infer import ELBO
from pyro.infer.util import torch_backward
from torch import Tensor


class LazyLoss(Number):
    """A loss in nats whose value is fetched from the device when it is first looked at.

    Arguments:
        tensor: a scalar, detached.

    Example:
        >>> import torch
        >>> f"{LazyLoss(torch.tensor(2.0)):.1f}"
        '2.0'
    """

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor

    def __float__(self) -> float:
        return self.tensor.item()

    def __format__(self, spec: str) -> str:
        return format(float(self), spec)

    def __repr__(self) -> str:
        return f"LazyLoss({float(self)})"

    __hash__ = None  # type: ignore[assignment]


class Lazy(ELBO):
    """An estimator whose ``svi.step`` returns without waiting for the device.

    The step's one synchronisation is the number that it returns; here it is a ``LazyLoss``, to
    be looked at every hundred steps, say. ``float(loss)`` waits; ``loss.tensor`` does not.

    Arguments:
        estimator: any estimator of this package, ``Chunked`` and ``Captured`` too.

    Example:
        >>> import torch
        >>> from pyro.infer import SVI
        >>> from sfnn_pyro.estimators import G5
        >>> from sfnn_pyro.guides import PriorProposal
        >>> from sfnn_pyro.models import SFNN
        >>> from sfnn_pyro.optim import JointOptim
        >>> model = SFNN([4, 3, 2])
        >>> optim = JointOptim(torch.optim.SGD(model.parameters(), lr=0.01))
        >>> svi = SVI(model, PriorProposal(model), optim, Lazy(G5(num_particles=20)))
        >>> loss = svi.step(torch.zeros(5, 4), torch.ones(5, 2))
        >>> float(loss) > 0
        True
    """

    def __init__(self, estimator: Any) -> None:
        super().__init__(num_particles=estimator.num_particles)
        self.estimator = estimator

    def loss(self, model: Callable, guide: Callable, *args: Any, **kwargs: Any) -> float:
        """The loss in nats, without gradients, fetched at once."""
        return self.estimator.loss(model, guide, *args, **kwargs)

    def differentiable_loss(
        self, model: Callable, guide: Callable, *args: Any, **kwargs: Any
    ) -> Tensor:
        """The loss as a scalar tensor whose gradient is the estimate."""
        return self.estimator.differentiable_loss(model, guide, *args, **kwargs)

    def loss_and_grads(self, model: Callable, guide: Callable, *args: Any, **kwargs: Any) -> Any:
        """Adds the estimated gradients to the parameters' and returns the ``LazyLoss``."""
        loss = self.differentiable_loss(model, guide, *args, **kwargs)
        torch_backward(loss)
        return LazyLoss(loss.detach())

    def _get_trace(self, model: Callable, guide: Callable, args: tuple, kwargs: dict) -> Any:
        return self.estimator._get_trace(model, guide, args, kwargs)
