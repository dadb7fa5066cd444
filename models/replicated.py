"""Many networks of one shape as one batched model."""

from collections.abc import Sequence

import pyro
import pyro.distributions as dist
import torch
from pyro.nn import PyroModule
from torch import Tensor

from sfnn_pyro.models.sfnn import SFNN
from sfnn_pyro.models.signature import OUTPUT, Signature


class ReplicatedSFNN(PyroModule):
    r"""R networks of the same sizes and likelihood in one plate of replicas.

    The sites are those of ``SFNN``, in the plates ``replicas`` (dim -2) and ``data`` (dim -1);
    a weight belongs to a replica and a datapoint, and no parameter is shared: the gradient of
    the summed loss is every network's own.

    Arguments:
        networks: the R networks; their parameters are copied.
        name: of the root module, a prefix of its parameters in Pyro's global store.

    Raises:
        ValueError: there is no network, or two differ in sizes or likelihood; or a call's x or y
            do not fit.

    Example:
        >>> import torch
        >>> model = ReplicatedSFNN([SFNN([4, 3, 2]), SFNN([4, 3, 2])])
        >>> model(torch.zeros(5, 4)).shape
        torch.Size([2, 5, 2])
    """

    def __init__(self, networks: Sequence[SFNN], *, name: str = "") -> None:
        super().__init__(name)
        kinds = {(tuple(network.sizes), network.likelihood) for network in networks}
        if len(kinds) != 1:
            raise ValueError(f"replicas need one shape and likelihood and got {sorted(kinds)}")
        self.sizes, self.likelihood = networks[0].sizes, networks[0].likelihood
        self.signature = Signature(self.sizes, self.likelihood)
        self.replicas = len(networks)
        layers = zip(*(network.layers for network in networks), strict=True)
        for number, same in enumerate(layers, 1):
            weight = torch.stack([layer.weight.detach() for layer in same])
            bias = torch.stack([layer.bias.detach() for layer in same])
            setattr(self, f"weight{number}", torch.nn.Parameter(weight))  # (R, n_out, n_in)
            setattr(self, f"bias{number}", torch.nn.Parameter(bias))  # (R, n_out)

    def network(self, replica: int) -> SFNN:
        """A copy of one replica as a network of its own."""
        network = SFNN(self.sizes, self.likelihood)
        with torch.no_grad():
            for number, layer in enumerate(network.layers, 1):
                layer.weight.copy_(getattr(self, f"weight{number}")[replica])
                layer.bias.copy_(getattr(self, f"bias{number}")[replica])
        return network

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Runs all networks.

        Arguments:
            x: ``(R, B, n_0)``, or ``(B, n_0)`` for all of them.
            y: ``(R, B, n_out)``, for a categorical likelihood ``(R, B)``, or less R; or None.

        Returns:
            y, given or sampled.
        """
        if x.shape[-1] != self.sizes[0] or x.dim() not in (2, 3):
            raise ValueError(
                f"x has shape {tuple(x.shape)}, expected ({self.replicas}, B, {self.sizes[0]})"
            )
        *hidden, output = [
            (getattr(self, f"weight{number}"), getattr(self, f"bias{number}"))
            for number in range(1, len(self.sizes))
        ]
        replicas = pyro.plate("replicas", self.replicas, dim=-2)
        with replicas, self.signature.plate(x.shape[-2]):
            h = x
            for number, (weight, bias) in enumerate(hidden, 1):
                fn = dist.Bernoulli(logits=_linear(h, weight, bias), validate_args=False)
                h = pyro.sample(f"h{number}", fn.to_event(1))
            return pyro.sample("y", self.signature.output(_linear(h, *output)), obs=y, infer=OUTPUT)


def _linear(h: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``(..., R, B, n_in)`` to ``(..., R, B, n_out)``, one product per replica."""
    if h.dim() == 2:
        h = h.expand(len(weight), *h.shape)
    if h.dim() == 3:
        return torch.baddbmm(bias.unsqueeze(1), h, weight.mT)
    particles, _, batch = h.shape[:3]
    rows = h.transpose(0, 1).flatten(1, 2)  # (R, M B, n_in)
    out = torch.baddbmm(bias.unsqueeze(1), rows, weight.mT)
    return out.unflatten(1, (particles, batch)).transpose(0, 1)
