"""The stochastic feedforward neural network as a Pyro model."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.infer.util import is_validation_enabled
from pyro.nn import PyroModule
from pyro.nn.module import to_pyro_module_
from torch import Tensor
from torch.nn.functional import linear

OUTPUT = {"is_output": True}
"""Says of a site that it is no hidden layer, also when nothing is observed there."""

LIKELIHOODS = ("bernoulli", "categorical", "gaussian")


class SFNN(PyroModule):
    r"""A feedforward network whose hidden units are binary and stochastic.

    .. math::
        P(h^l_i = 1 | h^{l-1}) = \sigma(W^l_{i:} h^{l-1} + b^l_i), \qquad h^0 = x

    with an output layer that is Bernoulli (eq. 3), categorical (eq. 2) or Gaussian of unit
    variance. Sample sites are ``h1`` to ``hL`` and ``y``, all in the plate ``data`` (dim -1).

    Weights start uniform in :math:`\pm\sqrt{3 g^2 / n_{in}}`, that is with variance
    :math:`g^2/n_{in}`. A binary input unit has a second moment of about 1/2, so g = 1 gives
    pre-activations of standard deviation 0.7: units start well away from saturation, where
    both the score h - σ(a) and the slope σ'(a) carry signal, and yet differ from unit to unit.
    Biases start at zero.

    References:
        Raiko, Berglund, Alain, Dinh. *Techniques for Learning Binary Stochastic Feedforward
        Neural Networks*, ICLR 2015, eqs. 1 to 3.

    Arguments:
        sizes: widths from input to output, at least three. The input may be 0 wide: the model
            then has no inputs and learns P(y).
        likelihood: ``"bernoulli"``, ``"categorical"`` or ``"gaussian"``.
        data_size: N, when a call sees a minibatch of a larger data set: the plate's scale is
            then N/B. Without it every call is the whole data set and the scale is one.
        name: of the root module, a prefix of the parameters in Pyro's global store; needed when
            one process trains several networks.

    Raises:
        ValueError: sizes or likelihood are not of this form, or a call's x or y do not fit.

    Example:
        >>> import torch
        >>> from pyro.infer import Predictive
        >>> _ = torch.manual_seed(0)
        >>> model = SFNN([4, 3, 2])
        >>> Predictive(model, num_samples=10)(torch.zeros(5, 4))["y"].shape
        torch.Size([10, 5, 2])
    """

    def __init__(
        self,
        sizes: Sequence[int],
        likelihood: str = "bernoulli",
        *,
        data_size: int | None = None,
        name: str = "",
    ) -> None:
        super().__init__(name)
        sizes = [int(size) for size in sizes]
        if len(sizes) < 3 or sizes[0] < 0 or min(sizes[1:]) < 1:
            raise ValueError(
                f"sizes={sizes}: give an input width (0 or more), at least one hidden width and "
                "an output width (1 or more)"
            )
        if likelihood not in LIKELIHOODS:
            raise ValueError(f"likelihood={likelihood!r}: choose one of {', '.join(LIKELIHOODS)}")
        if data_size is not None and data_size < 1:
            raise ValueError(f"data_size={data_size}: must be at least 1")
        self.sizes = sizes
        self.likelihood = likelihood
        self.data_size = data_size
        self.layers = PyroModule[torch.nn.ModuleList](
            [_linear(n_in, n_out) for n_in, n_out in itertools.pairwise(sizes)]
        )

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Runs the network, sampling the hidden layers and, unless it is given, y.

        Arguments:
            x: ``(B, n_0)``.
            y: ``(B, n_out)``, for a categorical likelihood ``(B,)`` of integers; or None.

        Returns:
            y, given or sampled; under a particle plate with a leading dimension of M.
        """
        self._check(x, y)
        # Parameters are Pyro sites too, and not the data's: they are met outside its plate.
        *hidden, output = [(layer.weight, layer.bias) for layer in self.layers]
        with self._data_plate(x.shape[0]):
            h = x
            for number, (weight, bias) in enumerate(hidden, 1):
                fn = dist.Bernoulli(logits=linear(h, weight, bias), validate_args=False)
                h = pyro.sample(f"h{number}", fn.to_event(1))
            return pyro.sample("y", self._output(linear(h, *output)), obs=y, infer=OUTPUT)

    def _data_plate(self, batch_size: int) -> Any:
        if self.data_size is None:
            return pyro.plate("data", batch_size, dim=-1)
        if self.data_size < batch_size:
            raise ValueError(
                f"a minibatch of {batch_size} is larger than data_size={self.data_size}"
            )
        return pyro.plate("data", self.data_size, subsample=torch.arange(batch_size), dim=-1)

    def _output(self, o: Tensor) -> dist.Distribution:
        if self.likelihood == "categorical":
            return dist.Categorical(logits=o, validate_args=False)
        if self.likelihood == "gaussian":
            return dist.Normal(o, 1.0, validate_args=False).to_event(1)
        fn = dist.Bernoulli(logits=o, validate_args=False)
        # The logits of all particles need no look, the observed values do.
        fn._validate_args = is_validation_enabled()
        return fn.to_event(1)

    def _check(self, x: Tensor, y: Tensor | None) -> None:
        if x.dim() != 2 or x.shape[1] != self.sizes[0] or not len(x):
            raise ValueError(
                f"x has shape {tuple(x.shape)}, expected (B, {self.sizes[0]}) with B at least 1"
            )
        self._check_kind("x", x)
        if y is None:
            return
        expected = (
            (x.shape[0],) if self.likelihood == "categorical" else (x.shape[0], self.sizes[-1])
        )
        if tuple(y.shape) != expected:
            raise ValueError(f"y has shape {tuple(y.shape)}, expected {expected}")
        if self.likelihood == "categorical":
            self._check_labels(y)
        else:
            self._check_kind("y", y)

    def _check_kind(self, name: str, value: Tensor) -> None:
        """Refuses what PyTorch would refuse further down, or spread as NaN."""
        own = self._own()
        cast = torch.is_autocast_enabled(own.device.type) and value.is_floating_point()
        if value.device != own.device or (value.dtype != own.dtype and not cast):
            raise ValueError(
                f"{name} is {value.dtype} on {value.device}, the model {own.dtype} on "
                f"{own.device}: convert it with {name}.to(device, dtype)"
            )

    def _check_labels(self, y: Tensor) -> None:
        device = self._own().device
        if y.dtype != torch.int64 or y.device != device:
            raise ValueError(
                f"y is {y.dtype} on {y.device}, expected labels, torch.int64, on the model's "
                f"{device}"
            )
        if is_validation_enabled() and not 0 <= int(y.min()) <= int(y.max()) < self.sizes[-1]:
            raise ValueError(
                f"y holds labels from {int(y.min())} to {int(y.max())}, the model has "
                f"{self.sizes[-1]} classes, 0 to {self.sizes[-1] - 1}"
            )

    def _own(self) -> Tensor:
        """A parameter, looked at without making it a site."""
        return self.layers[-1]._parameters["bias"]


def _linear(n_in: int, n_out: int) -> torch.nn.Module:
    layer = torch.nn.Linear(max(n_in, 1), n_out)
    layer.in_features = n_in
    bound = math.sqrt(3 / max(n_in, 1))
    layer.weight = torch.nn.Parameter(torch.empty(n_out, n_in).uniform_(-bound, bound))
    torch.nn.init.zeros_(layer.bias)
    to_pyro_module_(layer)
    return layer
