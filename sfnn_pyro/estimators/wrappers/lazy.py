"""A loss that waits on the device until it is looked at."""

import operator
from collections.abc import Callable
from functools import total_ordering
from numbers import Number
from typing import Any, ClassVar

from torch import Tensor

from sfnn_pyro.estimators.base import Estimator
from sfnn_pyro.estimators.wrappers.base import RETURNS_NUMBER, WrappedEstimator


@total_ordering
class LazyLoss(Number):
    """A loss in nats whose value is fetched from the device when it is first looked at.

    It takes part in arithmetic, comparisons, ``round`` and ``math`` like the ``float`` that it
    stands for.

    Arguments:
        tensor: a scalar, detached.

    Example:
        >>> import torch
        >>> loss = LazyLoss(torch.tensor(2.0))
        >>> f"{loss:.1f}", loss / 8 + 1, loss < 3, round(loss, 1)
        ('2.0', 1.25, True, 2.0)
    """

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor

    def __float__(self) -> float:
        return self.tensor.item()

    def __format__(self, spec: str) -> str:
        return format(float(self), spec)

    def __repr__(self) -> str:
        return f"LazyLoss({float(self)})"

    def __hash__(self) -> int:
        return hash(float(self))

    def __bool__(self) -> bool:
        return bool(float(self))

    def __int__(self) -> int:
        return int(float(self))

    def __round__(self, digits: int | None = None) -> Any:
        return round(float(self), digits)

    def __eq__(self, other: object) -> bool:
        return float(self) == _number(other)

    def __lt__(self, other: Any) -> bool:
        return float(self) < _number(other)

    def __neg__(self) -> float:
        return -float(self)

    def __pos__(self) -> float:
        return float(self)

    def __abs__(self) -> float:
        return abs(float(self))


def _number(value: Any) -> Any:
    return float(value) if isinstance(value, LazyLoss) else value


def _forward(operation: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    return lambda self, other: operation(float(self), _number(other))


def _backward(operation: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    return lambda self, other: operation(_number(other), float(self))


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow"):
    setattr(LazyLoss, f"__{_name}__", _forward(getattr(operator, _name)))
    setattr(LazyLoss, f"__r{_name}__", _backward(getattr(operator, _name)))


class Lazy(WrappedEstimator):
    """An estimator whose ``svi.step`` returns without waiting for the device.

    The step's one synchronisation is the number that it returns; here it is a ``LazyLoss``, to
    be looked at every hundred steps, say. ``float(loss)`` waits; ``loss.tensor`` does not.

    Arguments:
        estimator: any estimator of this package, other wrappers too: ``Lazy`` is the outermost.

    Raises:
        ValueError: the estimator is a ``Lazy`` already.

    Example:
        >>> import torch
        >>> from pyro.infer import SVI
        >>> from sfnn_pyro.estimators import G5
        >>> from sfnn_pyro.guides import PriorProposal
        >>> from sfnn_pyro.models import SFNN
        >>> from sfnn_pyro.training.optimizers import JointOptim
        >>> model = SFNN([4, 3, 2])
        >>> optim = JointOptim(torch.optim.SGD(model.parameters(), lr=0.01))
        >>> svi = SVI(model, PriorProposal(model), optim, Lazy(G5(num_particles=20)))
        >>> loss = svi.step(torch.zeros(5, 4), torch.ones(5, 2))
        >>> float(loss) > 0
        True
    """

    wraps: ClassVar[dict[str, str]] = RETURNS_NUMBER
    returns_number = False

    def __init__(self, estimator: Estimator) -> None:
        super().__init__(estimator)
        self.divisible = estimator.divisible
        self.responsibility_weighted = estimator.responsibility_weighted
        self.replayable = estimator.replayable

    def add_gradients(self, model: Callable, guide: Callable, *args: Any, **kwargs: Any) -> Tensor:
        return self.estimator.add_gradients(model, guide, *args, **kwargs)

    def loss_and_grads(self, model: Callable, guide: Callable, *args: Any, **kwargs: Any) -> Any:
        """Adds the estimated gradients to the parameters' and returns the ``LazyLoss``."""
        return LazyLoss(self.add_gradients(model, guide, *args, **kwargs))
