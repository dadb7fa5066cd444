"""The generative half of a variational autoencoder with Bernoulli latents."""

from collections.abc import Sequence

import pyro
import pyro.distributions as dist
import torch
from pyro.nn import PyroModule
from torch import Tensor

from sfnn_pyro.models.feedforward import feedforward
from sfnn_pyro.models.signature import OUTPUT, Signature


class BernoulliVAE(PyroModule):
    r"""One layer of Bernoulli latents, decoded to binary pixels.

    .. math::
        P(h_i = 1) = \sigma(a_i), \qquad P(y_j = 1 | h) = \sigma(D_j(h))

    where D is linear, or a network of leaky rectifiers. Linear with a learned prior it is
    ``SFNN([0, n, pixels])``, an unsupervised network, up to how its weights begin. Sample sites are
    ``h1`` and ``y`` in the plate ``data`` (dim -1); ``BernoulliEncoder`` is the guide of both. This
    is the model on which the literature compares gradient estimators.

    References:
        Dong, Mnih, Tucker, *DisARM*, NeurIPS 2020, arXiv 2006.10680, section 6; Titsias and Shi,
        arXiv 2111.05300, section 5.

    Arguments:
        widths: from the latents to the pixels, at least two; ``[200, 784]`` is linear.
        learned_prior: whether the logits a are learned, from zero; otherwise they are zero.
        centred: whether the decoder is given 2 h - 1 in the place of h.
        data_size, name: see ``SFNN``.

    Raises:
        ValueError: the widths are not of this form, or a call's x or y do not fit.

    Example:
        >>> import torch
        >>> from sfnn_pyro.estimators import DisARM
        >>> from sfnn_pyro.guides import BernoulliEncoder
        >>> model, guide = BernoulliVAE([3, 6]), BernoulliEncoder([6, 3])
        >>> DisARM(1)(model, guide)(torch.zeros(5, 0), torch.ones(5, 6)).backward()
    """

    prior_logits: Tensor

    def __init__(
        self,
        widths: Sequence[int],
        *,
        learned_prior: bool = False,
        centred: bool = False,
        data_size: int | None = None,
        name: str = "",
    ) -> None:
        super().__init__(name)
        self.decoder = feedforward(widths)
        self.latents, self.centred = widths[0], centred
        self.signature = Signature((0, *widths), "bernoulli", data_size)
        logits = torch.zeros(self.latents)
        if learned_prior:
            self.prior_logits = torch.nn.Parameter(logits)
        else:
            self.register_buffer("prior_logits", logits)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Draws the latents and, unless it is given, y.

        Arguments:
            x: ``(B, 0)``, which says how many datapoints there are.
            y: ``(B, pixels)``, or None.

        Returns:
            y, given or sampled; under a particle plate with a leading dimension of M.
        """
        self.signature.check(x, y, self.decoder[-1]._parameters["bias"])
        logits = self.prior_logits.expand(len(x), self.latents)
        with self.signature.plate(len(x)):
            h = pyro.sample("h1", dist.Bernoulli(logits=logits, validate_args=False).to_event(1))
            decoded = self.decoder(2 * h - 1 if self.centred else h)
            return pyro.sample("y", self.signature.output(decoded), obs=y, infer=OUTPUT)
