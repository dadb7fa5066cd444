"""The stochastic feedforward neural network as a Pyro model."""

import itertools
from collections.abc import Sequence
from typing import Any

import pyro
import pyro.distributions as dist
from pyro.nn import PyroModule
from torch import Tensor
from torch.nn import ModuleList
from torch.nn.functional import linear

from sfnn_pyro.models.signature import OUTPUT, Signature, check_sizes, linear_layer


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
        *more: Any,
        data_size: int | None = None,
        name: str = "",
    ) -> None:
        super().__init__(name)
        self.sizes = check_sizes(sizes, *([likelihood, *more] if more else []))
        self.likelihood = likelihood
        self.data_size = data_size
        self.signature = Signature(self.sizes, likelihood, data_size)
        self.layers = PyroModule[ModuleList](
            [linear_layer(n_in, n_out) for n_in, n_out in itertools.pairwise(self.sizes)]
        )

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Runs the network, sampling the hidden layers and, unless it is given, y.

        Arguments:
            x: ``(B, n_0)``.
            y: ``(B, n_out)``, for a categorical likelihood ``(B,)`` of integers; or None.

        Returns:
            y, given or sampled; under a particle plate with a leading dimension of M.
        """
        # The parameter is looked at without making it a site.
        self.signature.check(x, y, self.layers[-1]._parameters["bias"])
        # Parameters are Pyro sites too, and not the data's: they are met outside its plate.
        *hidden, output = [(layer.weight, layer.bias) for layer in self.layers]
        with self.signature.plate(x.shape[0]):
            h = x
            for number, (weight, bias) in enumerate(hidden, 1):
                fn = dist.Bernoulli(logits=linear(h, weight, bias), validate_args=False)
                h = pyro.sample(f"h{number}", fn.to_event(1))
            return pyro.sample("y", self.signature.output(linear(h, *output)), obs=y, infer=OUTPUT)
