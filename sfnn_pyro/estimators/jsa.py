"""JSA: joint stochastic approximation, a Metropolis chain that remembers every datapoint."""

import math
from typing import Any, Unpack

import torch
from torch import Tensor

from sfnn_pyro.estimators.base import (
    Coefficients,
    Estimator,
    Options,
    Passes,
    learned_pulls,
    weighted_sum,
    weighted_surrogate,
)
from sfnn_pyro.estimators.checks import check_vectorized
from sfnn_pyro.estimators.learned import check_state
from sfnn_pyro.particles import Particles, SiteTerm
from sfnn_pyro.particles.draw import refuse_delta, refuse_quantized
from sfnn_pyro.reparam import is_bernoulli


def uniforms(like: Tensor) -> Tensor:
    """Uniform numbers of the shape of another tensor."""
    return torch.rand_like(like)


class JSA(Estimator):
    r"""Trains model and guide on latents of the posterior, by a Metropolis chain per datapoint.

    .. math::
        h_m = \begin{cases} h'_m & u_m < w(h'_m) / w(h_{m-1}) \\ h_{m-1} & \text{else}
        \end{cases}, \qquad
        \frac1M \sum_{m=1}^M \partial \log P(y, h_m | x) + \partial \log R(h_m | y, x)

    for proposals :math:`h'_m` of the guide and their weights
    :math:`w = P(y, h | x) / R(h | y, x)`. The chain leaves :math:`P(h | y, x)` as it is: if the
    latents remembered are distributed so, the expected gradient is exactly that of
    :math:`\log P(y | x)` for the model, and of :math:`-KL(P(h | y, x) \| R)` for the guide; the
    bias is what the chain is behind while the parameters move. Where ``ReweightedWakeSleep``
    weights M particles afresh, this needs few, and a memory. With the prior as guide, the model
    alone is trained.

    The chain of a datapoint begins at its memory, which holds the last state of the step before,
    if ``see_rows`` says which datapoints the minibatch holds: ``Trainer`` calls it before every
    step. Otherwise, and at first, it begins at the first proposal. Images that are binarised anew
    begin at latents of another draw of theirs. The memory is part of ``state_dict``; on several
    processes each has its own.

    References:
        Ou & Song, *Joint Stochastic Approximation and Its Application to Learning Discrete Latent
        Variable Models*, UAI 2020, arXiv 2005.14001.

    Arguments:
        num_particles: M, at least 1: proposals, and steps of the chain.
        options: see ``Estimator``; it needs ``vectorize_particles``.

    Raises:
        ValueError: the guide is a mixture; or, with a memory, ``rows`` are not those of the
            minibatch, or the guide has a latent of its own or a ``Delta``, which cannot be scored
            at what is remembered.

    Example:
        >>> import torch
        >>> from pyro.infer import SVI
        >>> from pyro.optim import SGD
        >>> from sfnn_pyro.guides import RecognitionNetwork
        >>> from sfnn_pyro.models import SFNN
        >>> model, elbo = SFNN([4, 3, 2]), JSA(num_particles=2)
        >>> svi = SVI(model, RecognitionNetwork(model), SGD({"lr": 0.01}), elbo)
        >>> elbo.see_rows(torch.tensor([7, 0, 2]))  # of the training data
        >>> loss = svi.step(torch.zeros(3, 4), torch.ones(3, 2))
        >>> elbo.state_dict()["known"].tolist()
        [True, False, True, False, False, False, False, True]
    """

    target = "likelihood"
    unbiased = False
    divisible = False
    trains_guide = True
    replayable = False
    proposals = ("prior", "guide")
    why_not = "its chain needs independent draws of one guide; use ReweightedWakeSleep"
    passes = Passes(whole=1, single=1)

    def __init__(self, num_particles: int = 20, **options: Unpack[Options]) -> None:
        check_vectorized(self, options)
        super().__init__(num_particles, **options)
        self.known = torch.zeros(0, dtype=torch.bool)
        self.values: dict[str, Tensor] = {}
        self._rows: Tensor | None = None

    def see_rows(self, rows: Tensor) -> None:
        """Says which datapoints the next step's minibatch holds.

        Arguments:
            rows: their numbers in the training data, ``(B,)``, at least 0.
        """
        self._rows = rows

    def state_dict(self) -> dict[str, Any]:
        """The latents of every datapoint, and which are known; empty before the first."""
        return {"known": self.known, "values": self.values} if len(self.known) else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if not state:
            self.known, self.values = torch.zeros(0, dtype=torch.bool), {}
            return
        check_state("JSA", state, {"known", "values"})
        known, values = state["known"], state["values"]
        if any(len(table) != len(known) for table in values.values()):
            raise ValueError("a state of JSA has as many latents as it has datapoints")
        self.known = known.clone()
        self.values = {name: table.clone() for name, table in values.items()}

    def coefficients(self, log_weight: Tensor) -> Coefficients:
        """Those of a chain that begins at the first particle."""
        nothing = torch.full_like(log_weight[:1], -math.inf)
        share, _ = visits(torch.cat([nothing, log_weight]), uniforms(log_weight))
        return Coefficients(observed=share[1:], latent=share[1:])

    def surrogate(self, particles: Particles, log_weight: Tensor) -> Tensor:
        rows, self._rows = self._rows, None
        if rows is None:
            return _attraction(particles, self.coefficients(log_weight).observed)
        assert particles.redraw is not None
        rows, terms, axis = rows.cpu(), _latents(particles), _axis(particles, rows)
        self._grow(terms, axis, rows)
        known = self.known[rows].to(log_weight.device)
        # Where nothing is known any value that is possible will do: it has no weight.
        begin = {
            name: torch.where(
                _along(known, axis, term.value.dim()),
                self.values[name][rows].to(term.value).unsqueeze(1).movedim(0, axis),
                term.value[:1].detach(),
            )
            for name, term in terms.items()
        }
        remembered = particles.redraw(begin, count=1)
        unknown = ~_along(known, axis, log_weight.dim())
        before = remembered.log_weight().detach().masked_fill(unknown, -math.inf)
        every = torch.cat([before, log_weight])  # (M + 1, *batch)
        share, last = visits(every, uniforms(log_weight))
        number = last.reshape(len(rows))
        for name, term in terms.items():
            states = torch.cat([begin[name], term.value.detach()]).movedim(axis, 0)
            chosen = states[torch.arange(len(rows), device=number.device), number]
            self.values[name][rows] = chosen.to(self.values[name])
        self.known[rows] = (every.gather(0, last[None]) > -math.inf).reshape(-1).to(self.known)
        return _attraction(particles, share[1:]) + _attraction(remembered, share[:1])

    def _grow(self, terms: dict[str, SiteTerm], axis: int, rows: Tensor) -> None:
        """Makes room for datapoints that have not been seen."""
        size, needed = len(self.known), int(rows.max()) + 1
        for name, term in terms.items():
            shape = term.value[0].movedim(axis - 1, 0).shape[1:]
            dtype = torch.bool if is_bernoulli(term.fn) else term.value.dtype
            table = self.values.get(name)
            if table is not None and table.shape[1:] != shape:
                raise ValueError(
                    f"site '{name}' had latents of shape {tuple(table.shape[1:])} and has "
                    f"{tuple(shape)}: use one JSA for each model"
                )
            if table is None or needed > size:
                grown = torch.zeros(max(size, needed), *shape, dtype=dtype)
                if table is not None:
                    grown[:size] = table
                self.values[name] = grown
        if needed > size:
            self.known = torch.cat([self.known, torch.zeros(needed - size, dtype=torch.bool)])


def visits(log_weight: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """What part of its steps a chain spends at each state, and at which it ends.

    Arguments:
        log_weight: ``(M + 1, *batch)``, that of the first state and of M proposals.
        uniform: ``(M, *batch)``, in [0, 1): of every step.

    Returns:
        ``(M + 1, *batch)``, with zeros where a weight is zero; and ``(*batch)``, from 0 to M.

    Example:
        >>> weights, half = torch.tensor([0.0, 5.0, 2.0]).log(), torch.full((2,), 0.5)
        >>> visits(weights, half)
        (tensor([0., 1., 0.]), tensor(1))
    """
    at, place = log_weight[0], torch.zeros_like(log_weight[0], dtype=torch.long)
    share = torch.zeros_like(log_weight)
    part = torch.full_like(at, 1 / len(uniform))
    for number, (proposed, chance) in enumerate(zip(log_weight[1:], uniform, strict=True), 1):
        accepted = (proposed - at > chance.log()) | (at == -math.inf)
        place = torch.where(accepted, number, place)
        at = torch.where(accepted, proposed, at)
        share = share.scatter_add(0, place[None], part[None])
    return share.masked_fill(log_weight == -math.inf, 0.0), place


def _attraction(particles: Particles, share: Tensor) -> Tensor:
    """A scalar whose gradient draws model and guide to the particles."""
    model = weighted_surrogate(particles, Coefficients(observed=share, latent=share))
    guide = learned_pulls(particles, share)
    return model + weighted_sum(guide, particles.scale, share) if guide else model


def _latents(particles: Particles) -> dict[str, SiteTerm]:
    """The model's latents, if the guide can be scored at other values of theirs."""
    terms = {term.name: term for term in particles.latent if isinstance(term, SiteTerm)}
    for component in particles.components:
        for term in (one for one in component.terms if isinstance(one, SiteTerm) and one.drawn):
            if term.name not in terms:
                raise ValueError(
                    f"site '{term.name}': a guide with a latent of its own, as an autoguide has, "
                    "cannot be scored at the latents that JSA remembers; use ReweightedWakeSleep"
                )
            refuse_delta({"name": term.name, "fn": term.fn}, "the latents that JSA remembers")
            refuse_quantized(term.name, term.value, "JSA remembers it")
    return terms


def _axis(particles: Particles, rows: Tensor) -> int:
    """The dimension of a latent's value that counts the datapoints."""
    shape = particles.batch_shape
    if rows.dim() != 1 or len(rows) != math.prod(shape) or len(rows) not in (1, *shape):
        raise ValueError(
            f"see_rows was given rows of shape {tuple(rows.shape)} for datapoints of shape "
            f"{tuple(shape)}: give one number for each datapoint of one plate, or leave it out and "
            "JSA remembers nothing"
        )
    return 1 + (shape.index(len(rows)) if len(rows) in shape else len(shape) - 1)


def _along(values: Tensor, axis: int, dims: int) -> Tensor:
    """``(B,)`` along one dimension of as many as are given."""
    return values.reshape([-1 if dim == axis else 1 for dim in range(dims)])
