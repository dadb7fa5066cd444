"""The recognition half of a variational autoencoder with Bernoulli latents."""

from collections.abc import Sequence

import pyro
import pyro.distributions as dist
from pyro.nn import PyroModule
from torch import Tensor

from sfnn_pyro.models.feedforward import feedforward
from sfnn_pyro.models.signature import data_plate


class BernoulliEncoder(PyroModule):
    r"""Proposes one layer of Bernoulli latents from the observed y.

    .. math:: R(h_i = 1 | y) = \sigma(E_i(y - \mu))

    where E is linear, or a network of leaky rectifiers: the guide of ``BernoulliVAE``. For several
    layers of latents, or inputs x, use ``RecognitionNetwork``.

    References:
        Dong, Mnih, Tucker, *DisARM*, NeurIPS 2020, arXiv 2006.10680, section 6.

    Arguments:
        widths: from y to the latents, at least two; ``[784, 200]`` is linear.
        mean: μ ``(n,)``, what is subtracted from y; zero unless given.
        data_size, name: see ``SFNN``.

    Raises:
        ValueError: the widths or the mean are not of this form, or a call's y does not fit.

    Example:
        >>> import torch
        >>> from pyro import poutine
        >>> guide = BernoulliEncoder([6, 3])
        >>> trace = poutine.trace(guide).get_trace(torch.zeros(5, 0), torch.ones(5, 6))
        >>> trace.nodes["h1"]["value"].shape
        torch.Size([5, 3])
    """

    mean: Tensor | None

    def __init__(
        self,
        widths: Sequence[int],
        *,
        mean: Tensor | None = None,
        data_size: int | None = None,
        name: str = "",
    ) -> None:
        super().__init__(name)
        self.encoder = feedforward(widths)
        self.n_in, self.data_size = widths[0], data_size
        if mean is not None and mean.shape != (self.n_in,):
            raise ValueError(f"mean has shape {tuple(mean.shape)}, expected ({self.n_in},)")
        self.register_buffer("mean", mean)

    def forward(self, x: Tensor, y: Tensor | None = None) -> None:
        """Samples h1.

        Arguments:
            x: ``(B, 0)``, not looked at.
            y: ``(B, n)``.
        """
        if y is None:
            raise ValueError("a BernoulliEncoder proposes from y, which is missing")
        if y.dim() != 2 or y.shape[1] != self.n_in:
            raise ValueError(f"y has shape {tuple(y.shape)}, expected (B, {self.n_in})")
        logits = self.encoder(y if self.mean is None else y - self.mean)
        with data_plate(len(y), self.data_size):
            pyro.sample("h1", dist.Bernoulli(logits=logits, validate_args=False).to_event(1))
