"""The hybrid networks C and D: deterministic units around a few binary stochastic ones."""

import itertools
from collections.abc import Sequence
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.nn import PyroModule
from torch import Tensor
from torch.nn.functional import linear

from sfnn_pyro.models.signature import MAX_WIDTH, OUTPUT, Signature, check_sizes, linear_layer
from sfnn_pyro.system.numbers import check_whole


class HybridSFNN(PyroModule):
    r"""A feedforward network of deterministic units with a few binary stochastic ones per layer.

    .. math::
        P(h^l_i = 1 | d^{l-1}) = \sigma(G^l_{i:} d^{l-1} + g^l_i), \qquad
        d^l = \sigma(W^l d^{l-1} + S^l h^l + b^l), \qquad d^0 = x

    Each hidden layer holds stochastic units h and deterministic units d. The stochastic ones
    see the deterministic ones below and are seen by the deterministic ones beside them, and by
    nothing else: "incoming connections from the deterministic input from the previous layer,
    and outgoing connections to the deterministic neurons in the same layer". So the output
    layer sees the last layer's deterministic units alone.

    With ``learned`` this is the paper's network C; without, its network D, whose stochastic
    units are fair coins with no weights of their own. Sites are those of ``SFNN``: ``h1`` to
    ``hL``, the stochastic units, and ``y``. D's latents have nothing to learn, so that every
    estimator leaves it the gradient of the responsibilities (eq. 16).

    References:
        Raiko, Berglund, Alain, Dinh. *Techniques for Learning Binary Stochastic Feedforward
        Neural Networks*, ICLR 2015, section 3; Tang & Salakhutdinov, *Learning Stochastic
        Feedforward Neural Networks*, NIPS 2013.

    Arguments:
        sizes: widths from input to output, at least three; those of hidden layers count
            stochastic and deterministic units together.
        likelihood: ``"bernoulli"``, ``"categorical"`` or ``"gaussian"``.
        stochastic: how many units of each hidden layer are stochastic.
        learned: whether their probabilities are learned, or 1/2.
        data_size, name: see ``SFNN``.

    Raises:
        ValueError: a hidden layer has no room for a deterministic unit, or see ``SFNN``.

    Example:
        >>> import torch
        >>> from sfnn_pyro.estimators import G4
        >>> from sfnn_pyro.guides import PriorProposal
        >>> model = HybridSFNN([4, 5, 5, 2], stochastic=2)
        >>> loss = G4(num_particles=20)(model, PriorProposal(model))
        >>> loss(torch.zeros(3, 4), torch.ones(3, 2)).backward()
    """

    def __init__(
        self,
        sizes: Sequence[int],
        likelihood: str = "bernoulli",
        *more: Any,
        stochastic: int = 40,
        learned: bool = True,
        data_size: int | None = None,
        name: str = "",
    ) -> None:
        super().__init__(name)
        self.sizes = check_sizes(sizes, *([likelihood, *more] if more else []))
        self.likelihood = likelihood
        self.data_size = data_size
        self.signature = Signature(self.sizes, likelihood, data_size)
        n_in, *hidden, n_out = self.sizes
        check_whole("stochastic", stochastic, None, MAX_WIDTH)
        if not 1 <= stochastic < min(hidden):
            raise ValueError(
                f"stochastic={stochastic}: each hidden layer of {hidden} needs at least one "
                "stochastic and one deterministic unit"
            )
        self.stochastic, self.learned = stochastic, learned
        widths = [n_in, *(width - stochastic for width in hidden)]
        pairs = list(itertools.pairwise(widths))
        self.layers = PyroModule[torch.nn.ModuleList](
            [linear_layer(below, own, below + stochastic) for below, own in pairs]
            + [linear_layer(widths[-1], n_out, widths[-1])]
        )
        self.beside = PyroModule[torch.nn.ModuleList](
            [linear_layer(stochastic, own, below + stochastic, bias=False) for below, own in pairs]
        )
        self.gates = PyroModule[torch.nn.ModuleList](
            [linear_layer(below, stochastic, below) for below in widths[:-1]] if learned else []
        )

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Runs the network, sampling the stochastic units and, unless it is given, y.

        Arguments:
            x: ``(B, n_0)``.
            y: ``(B, n_out)``, for a categorical likelihood ``(B,)`` of integers; or None.

        Returns:
            y, given or sampled; under a particle plate with a leading dimension of M.
        """
        # The parameter is looked at without making it a site.
        self.signature.check(x, y, self.layers[-1]._parameters["bias"])
        # Parameters are Pyro sites too, and not the data's: they are met outside its plate.
        *layers, output = [(layer.weight, layer.bias) for layer in self.layers]
        beside = [layer.weight for layer in self.beside]
        gates = [(gate.weight, gate.bias) for gate in self.gates]
        with self.signature.plate(x.shape[0]):
            d = x
            for number, (weight, bias) in enumerate(layers):
                if self.learned:
                    logits = linear(d, *gates[number])
                else:
                    logits = x.new_zeros(len(x), self.stochastic)
                fn = dist.Bernoulli(logits=logits, validate_args=False).to_event(1)
                h = pyro.sample(f"h{number + 1}", fn)
                # The first layer's d is shared by all particles: it is multiplied once.
                d = torch.sigmoid(linear(d, weight, bias) + linear(h, beside[number]))
            return pyro.sample("y", self.signature.output(linear(d, *output)), obs=y, infer=OUTPUT)
