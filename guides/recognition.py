"""A learned proposal for the hidden layers of an SFNN."""

import itertools
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.nn import PyroModule
from pyro.nn.module import to_pyro_module_
from torch import Tensor

from sfnn_pyro.models.signature import data_plate
from sfnn_pyro.system.numbers import check_whole

MAX_WIDTH = 2**40


class RecognitionNetwork(PyroModule):
    r"""Proposes the hidden layers from input *and* output, :math:`R(h | y, x)`.

    .. math::
        R(h^l_i = 1 | h^{l-1}, y, x) = \sigma(A^l_{i:} h^{l-1} + B^l_{i:} e + c^l_i), \qquad
        e = \tanh(E [x, y] + d)

    From the bottom up, layer by layer, with no parameter of the model in it. Train it with
    ``ReweightedWakeSleep``, or with the multi-sample objective by ``VIMCO``. Without an encoder
    (``width=0``), e = [x, y].

    References:
        Raiko et al., ICLR 2015, section 2.5 (where it is left to others); Bornschein & Bengio,
        *Reweighted Wake-Sleep*, ICLR 2015, arXiv 1406.2751.

    Arguments:
        model: an ``SFNN``; its widths, likelihood and data size are read, nothing is shared.
        width: deterministic units of the encoder; 0 for none.

    Raises:
        ValueError: ``width`` is negative, or a call gives no y.

    Example:
        >>> import torch
        >>> from pyro import poutine
        >>> from sfnn_pyro.models import SFNN
        >>> guide = RecognitionNetwork(SFNN([4, 3, 2]), width=8)
        >>> trace = poutine.trace(guide).get_trace(torch.zeros(5, 4), torch.zeros(5, 2))
        >>> trace.nodes["h1"]["value"].shape
        torch.Size([5, 3])
    """

    def __init__(self, model: Any, width: int = 200) -> None:
        super().__init__()
        check_whole("width", width, 0, MAX_WIDTH)
        if not hasattr(model, "sizes"):
            raise ValueError(
                f"model is a {type(model).__name__}: give an SFNN, whose widths are read; a guide "
                "of another model is a program of your own"
            )
        n_in, *hidden, n_out = model.sizes
        self.n_out, self.likelihood, self.data_size = n_out, model.likelihood, model.data_size
        self.encoder = torch.nn.Linear(n_in + n_out, width) if width else None
        context = width or n_in + n_out
        self.from_context = torch.nn.ModuleList(torch.nn.Linear(context, n) for n in hidden)
        self.from_below = torch.nn.ModuleList(
            torch.nn.Linear(below, n, bias=False) for below, n in itertools.pairwise(hidden)
        )
        to_pyro_module_(self)

    def forward(self, x: Tensor, y: Tensor | None = None) -> None:
        """Samples h1 to hL.

        Arguments:
            x: ``(B, n_0)``.
            y: ``(B, n_out)``, for a categorical likelihood ``(B,)`` of integers.
        """
        if y is None:
            raise ValueError("a RecognitionNetwork proposes from y as well as x: y is missing")
        context = self._context(x, y)
        with data_plate(x.shape[0], self.data_size):
            h = None
            for number, layer in enumerate(self.from_context, 1):
                logits = layer(context)
                if h is not None:
                    logits = logits + self.from_below[number - 2](h)
                fn = dist.Bernoulli(logits=logits, validate_args=False).to_event(1)
                h = pyro.sample(f"h{number}", fn)

    def _context(self, x: Tensor, y: Tensor) -> Tensor:
        if self.likelihood == "categorical":
            y = torch.nn.functional.one_hot(y, self.n_out)
        context = torch.cat([x, y.to(x)], -1)
        return context if self.encoder is None else torch.tanh(self.encoder(context))
