"""What is right for a specification, by enumeration of every joint state, in float64.

Plain PyTorch: nothing of Pyro, nothing of the package under test. The rule of one datapoint is
written here a second time: an element of the vectorised plates that all latent, observed and
factor sites of model and guide share. What every such site carries (the subsampling of those
plates, a scale of the same value) stands outside the logarithm; the scale and the mask of single
sites are part of their log-probability. Particles have the law that drew them, which no scale
or mask changes.
"""

import itertools
import math
from collections import Counter
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.functional import log_softmax, logsigmoid, one_hot, softplus

from tests.programs.spec import (
    CATEGORIES,
    DISCRETE,
    TRIALS,
    Concrete,
    Numbers,
    Program,
    Site,
    batch_shape,
    concrete,
    event_shape,
    guide_sites,
    is_latent,
    is_weighed,
    numbers,
)


def support(site: Site) -> Tensor:
    """Every value of one unit, ``(k,)`` or ``(k, categories)``."""
    if site.family == "bernoulli":
        return torch.tensor([0.0, 1.0], dtype=torch.float64)
    if site.family == "categorical":
        return torch.arange(CATEGORIES, dtype=torch.float64)
    if site.family == "binomial":
        return torch.arange(TRIALS + 1, dtype=torch.float64)
    return torch.eye(CATEGORIES, dtype=torch.float64)


def log_density(site: Site, natural: Tensor, value: Tensor) -> Tensor:
    """Of one unit."""
    if site.family == "bernoulli":
        return value * natural - softplus(natural)
    if site.family == "categorical":
        picked = one_hot(value.long(), CATEGORIES).double()
        return (log_softmax(natural, -1) * picked).sum(-1)
    if site.family == "onehot":
        return (log_softmax(natural, -1) * value).sum(-1)
    if site.family == "binomial":
        ways = math.lgamma(TRIALS + 1) - torch.lgamma(value + 1) - torch.lgamma(TRIALS - value + 1)
        return ways + value * logsigmoid(natural) + (TRIALS - value) * logsigmoid(-natural)
    if site.family == "normal":
        return -((value - natural) ** 2) / 2 - math.log(2 * math.pi) / 2
    if site.family == "poisson":
        return value * natural - natural.exp() - torch.lgamma(value + 1)
    if site.family == "delta":
        return torch.zeros_like(natural)
    raise ValueError(site.family)


def _trapezoid(site: Site, natural: Tensor, value: Tensor) -> Tensor:
    """Zero, with the slope of ReinMax."""
    change = natural - natural.detach()
    if site.family == "bernoulli":
        return (value - natural.detach().sigmoid()).abs() / 2 * change
    if site.family != "onehot":
        return torch.zeros_like(value)
    probs = natural.detach().softmax(-1)
    middle = (probs + value) / 2
    pulls = [2 * middle, -probs / 2]
    means = [(one * change).sum(-1, keepdim=True) for one in (middle, probs)]
    return sum(pull * (change - mean) for pull, mean in zip(pulls, means, strict=True))


@dataclass(frozen=True)
class Tables:
    """Log-densities of every joint state, ``(K, B)``; attached to the parameters.

    Arguments:
        observed: of what is observed, and of factors, as they stand in a weight.
        latent: of the latents under the model, as they stand in a weight.
        law: of the latents under the model, as they are drawn.
        proposed: of the latents under the guide, as they stand in a weight; None for a prior.
        drawn: of the latents under the guide, as they are drawn; None for a prior.
    """

    observed: Tensor
    latent: Tensor
    law: Tensor
    proposed: Tensor | None
    drawn: Tensor | None


class Oracle:
    """The states, weights and expectations of one program."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.given: Numbers = numbers(program)
        self.leaves = {
            name: value.clone().requires_grad_() for name, value in self.given.initial.items()
        }
        self.nesting = program.nesting
        self.model = concrete(program, program.sites)
        self.guide: list[Concrete] | None = None
        if program.guide.kind != "prior":
            self.guide = concrete(program, guide_sites(program))
        self.weighed = [one for one in self.model if is_weighed(one.template)]
        self.latent = [one for one in self.model if is_latent(one.template)]
        self.discrete = [one for one in self.latent if one.template.family in DISCRETE]

    # What one datapoint is.

    @cached_property
    def shared(self) -> list[str]:
        """Vectorised plates that every site which counts lies in."""
        counted = [*self.weighed, *self.latent, *(self.guide or [])]
        return [
            plate.name
            for plate in self.program.plates
            if counted and all(plate.name in one.template.plates for one in counted)
        ]

    @cached_property
    def datapoint_shape(self) -> tuple[int, ...]:
        """``(d_n, ..., d_1)``, one where a dimension is no datapoint's."""
        shape = [1] * self.nesting
        for name in self.shared:
            plate = self.program.plate(name)
            shape[plate.dim] = plate.size
        return tuple(shape)

    @property
    def datapoints(self) -> int:
        return math.prod(self.datapoint_shape)

    def _factors(self, one: Concrete, owner: str) -> Counter:
        """Scales that a site carries: by plate, by number, or by handler for a tensor."""
        carried: Counter = Counter()
        site = one.template
        for name in site.plates:
            if self.program.plate(name).full:
                carried["plate", name] += 1
        if site.loop is not None and self.program.loop(site.loop).full:
            carried["loop", site.loop] += 1
        for number, handler in enumerate(self.program.handlers):
            inside = site.name in handler.sites and (owner == "m" or handler.in_guide)
            if handler.kind == "scale" and inside:
                key = ("value", handler.value) if handler.plate is None else ("tensor", number)
                carried[key] += 1
        return carried

    def _factor(self, key: tuple) -> Tensor:
        """``(1, d_n, ..., d_1)``."""
        kind, what = key
        if kind == "value":
            value = torch.tensor(float(what), dtype=torch.float64)
        elif kind == "tensor":
            value = self.given.tensors[what]
        else:
            part = self.program.plate(what) if kind == "plate" else self.program.loop(what)
            value = torch.tensor(part.full / part.size, dtype=torch.float64)
        return value.reshape((1,) * (1 + self.nesting - value.dim()) + value.shape)

    @cached_property
    def outside(self) -> Counter:
        """Scales that every site which counts carries and that are one number per datapoint."""
        carried = [self._factors(one, "m") for one in (*self.weighed, *self.latent)]
        carried += [self._factors(one, "g") for one in self.guide or []]
        common = carried[0] if carried else Counter()
        for other in carried[1:]:
            common = common & other
        kept: Counter = Counter()
        for key, count in common.items():
            plate = self.program.handlers[key[1]].plate if key[0] == "tensor" else None
            if plate is None or plate in self.shared:
                kept[key] = count
        return kept

    @cached_property
    def scale(self) -> Tensor:
        """``(B,)``: what stands outside the logarithm."""
        total = torch.ones((1, *self.datapoint_shape), dtype=torch.float64)
        for key, count in self.outside.items():
            total = total * self._factor(key) ** count
        return total.flatten()

    def _inside(
        self, one: Concrete, owner: str, log_prob: Tensor, *, scaled: bool = True
    ) -> Tensor:
        """A log-probability as it stands in a weight."""
        factors = self._factors(one, owner) - self.outside if scaled else Counter()
        for key, count in factors.items():
            log_prob = log_prob * self._factor(key) ** count
        for number, handler in enumerate(self.program.handlers):
            if handler.kind == "scale" or one.template.name not in handler.sites:
                continue
            if owner == "g" and not handler.in_guide:
                continue
            mask = torch.tensor(bool(handler.value))
            if handler.plate is not None:
                mask = self.given.tensors[number]
                mask = mask.reshape((1,) * (1 + self.nesting - mask.dim()) + mask.shape)
            log_prob = torch.where(mask, log_prob, torch.zeros_like(log_prob))
        return log_prob

    # The states of one datapoint.

    def _element_shape(self, site: Site) -> tuple[int, ...]:
        """The site's batch dimensions within one datapoint."""
        shape = list(batch_shape(self.program, site))
        for name in self.shared:
            shape[self.program.plate(name).dim] = 1
        return tuple(shape)

    @cached_property
    def num_states(self) -> int:
        """K, without building the states."""
        total = 1
        for one in self.discrete:
            units = math.prod(self._element_shape(one.template)) * max(one.template.units, 1)
            total *= len(support(one.template)) ** units
        return total

    @cached_property
    def states(self) -> dict[str, Tensor]:
        """Values of the discrete latents, ``(K, *element, *event)``."""
        choices, shapes = [], []
        for one in self.discrete:
            site = one.template
            shape = self._element_shape(site)
            units = (site.units,) if site.units else ()
            table = support(site)
            count = math.prod(shape) * math.prod(units)
            rows = torch.tensor(
                list(itertools.product(range(len(table)), repeat=count)), dtype=torch.long
            ).reshape(-1, count)
            choices.append(table[rows].reshape(len(rows), *shape, *event_shape(site)))
            shapes.append(len(rows))
        if not choices:
            return {}
        index = torch.cartesian_prod(*(torch.arange(size) for size in shapes))
        index = index.reshape(-1, len(shapes))
        return {
            one.name: values[index[:, number]]
            for number, (one, values) in enumerate(zip(self.discrete, choices, strict=True))
        }

    # One run over all states.

    def _observation(self, one: Concrete) -> Tensor:
        site = one.template
        value = self.given.data[site.name]
        if site.loop is not None:
            chosen = self.given.indices.get(site.loop)
            value = value[one.iteration if chosen is None else int(chosen[one.iteration])]
        for name in site.plates:
            plate = self.program.plate(name)
            if plate.full:
                dim = plate.dim - len(event_shape(site))
                value = value.index_select(dim, self.given.indices[name])
        return value.unsqueeze(0)

    def _feature(self, one: Concrete, parent: Site, value: Tensor) -> Tensor:
        value = value.double()
        for _ in event_shape(parent):
            weights = torch.arange(1, value.shape[-1] + 1, dtype=torch.float64)
            value = (value * weights).sum(-1)
        for name in parent.plates:
            if name not in one.template.plates:
                plate = self.program.plate(name)
                if value.shape[plate.dim] == 1:
                    value = value * plate.size
                value = value.sum(plate.dim, keepdim=True)
        return value

    def _run(
        self,
        sites: list[Concrete],
        owner: str,
        slope: str | None,
        known: dict[str, Tensor],
        units: str | None = None,
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Log-probability ``(K, *batch)`` of every site, and values; as drawn.

        ``slope`` gives Bernoulli latents a path, "sigmoid" or "identity", or them and one-hot
        latents that of the "trapezoid". The site that ``units`` names keeps the
        log-probabilities of its units apart.
        """
        values, logs = dict(known), {}
        templates = {one.name: one.template for one in self.model}
        for one in sites:
            site = one.template
            bias = self.leaves[f"{owner}_{site.name}_bias"]
            total = torch.zeros((1,) * (1 + self.nesting), dtype=torch.float64)
            for name, parent in one.parents:
                weight = self.leaves[f"{owner}_{site.name}_{name}"]
                feature = self._feature(one, templates[parent], values[parent])
                total = total + weight * feature
            total = total.reshape(total.shape + (1,) * bias.dim())
            ramp = torch.arange(1, bias.numel() + 1, dtype=torch.float64) / max(bias.numel(), 1)
            natural = bias + ramp.reshape(bias.shape) * total
            shape = (natural.shape[0], *batch_shape(self.program, site))
            natural = natural.expand(*shape, *bias.shape)
            if site.family == "factor":
                logs[one.name] = natural
                continue
            if site.family in ("deterministic", "delta"):
                values[one.name] = natural
                logs[one.name] = torch.zeros(shape, dtype=torch.float64)
                continue
            if site.observed:
                values[one.name] = self._observation(one)
            elif site.family in DISCRETE:
                value = self.states[one.name]
                if slope == "trapezoid" and owner == "m" and self.guide is not None:
                    value = known[one.name]  # with the guide's path
                elif slope == "trapezoid":
                    value = value + _trapezoid(site, natural, value)
                elif slope is not None and site.family == "bernoulli":
                    path = natural.sigmoid() if slope == "sigmoid" else natural
                    value = value + (path - path.detach())
                values[one.name] = value
            log_prob = log_density(site, natural, values[one.name])
            logs[one.name] = log_prob.sum(-1) if site.units and one.name != units else log_prob
            if site.do and owner == "m":
                values[one.name] = self._observation(one)
        return logs, values

    def _datapoint_sum(self, one: Concrete, log_prob: Tensor) -> Tensor:
        """``(K, B)``."""
        site = one.template
        rows = log_prob.shape[0]
        shape = torch.broadcast_shapes(log_prob.shape[1:], batch_shape(self.program, site))
        log_prob = log_prob.expand(rows, *shape)
        for dim in range(-self.nesting, 0):
            if self.datapoint_shape[dim] == 1:
                log_prob = log_prob.sum(dim, keepdim=True)
        return log_prob.expand(rows, *self.datapoint_shape).reshape(rows, -1)

    def masked_law(self) -> Tensor:
        """The law of the latents, ``(K, B)``, less the elements that are masked."""
        logs, _ = self._run(self.model, "m", None, self._proposed_values())
        return self._total(self.latent, "m", logs, weighed=True, scaled=False)

    def _total(
        self,
        sites: list[Concrete],
        owner: str,
        logs: dict,
        *,
        weighed: bool,
        scaled: bool = True,
    ) -> Tensor:
        total = torch.zeros((self.num_states, self.datapoints), dtype=torch.float64)
        for one in sites:
            log_prob = logs[one.name]
            if weighed:
                log_prob = self._inside(one, owner, log_prob, scaled=scaled)
            total = total + self._datapoint_sum(one, log_prob)
        return total

    def _seen(self) -> dict[str, Tensor]:
        """What a guide is given."""
        return {one.name: self._observation(one) for one in self.model if one.template.observed}

    def _proposed_values(self) -> dict[str, Tensor]:
        """Values of latents that a guide proposes as points."""
        if self.guide is None:
            return {}
        _, values = self._run(self.guide, "g", None, self._seen())
        return {one.name: values[one.name] for one in self.guide if one.name in values}

    def tables(self, slope: str | None = None) -> Tables:
        """Log-densities of every state."""
        proposed = drawn = None
        known = self._proposed_values()
        if self.guide is not None:
            path = slope if slope == "trapezoid" else None
            logs, values = self._run(self.guide, "g", path, self._seen())
            known = {one.name: values[one.name] for one in self.guide if one.name in values}
            proposed = self._total(self.guide, "g", logs, weighed=True)
            laws = [one for one in self.guide if one.template.family != "factor"]
            drawn = self._total(laws, "g", logs, weighed=False)
        logs, _ = self._run(self.model, "m", slope, known)
        return Tables(
            observed=self._total(self.weighed, "m", logs, weighed=True),
            latent=self._total(self.latent, "m", logs, weighed=True),
            law=self._total(self.latent, "m", logs, weighed=False),
            proposed=proposed,
            drawn=drawn,
        )

    def split_observed(self, name: str, known: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probability of a vector's known units and of the others, ``(K, B)``, constant."""
        (one,) = [one for one in self.weighed if one.name == name]
        logs, _ = self._run(self.model, "m", None, self._proposed_values(), units=one.name)
        parts = []
        for mask in (known, ~known):
            log_prob = self._inside(one, "m", (logs[name] * mask).sum(-1))
            part = self._datapoint_sum(one, log_prob).detach()
            parts.append(part.expand(self.num_states, self.datapoints))
        return parts[0], parts[1]

    def states_of(self, values: dict[str, Tensor]) -> Tensor:
        """The states ``(M, B)`` that have these values of the latents: ``values_of`` inverted."""
        count = next(iter(values.values())).shape[0] if values else 1
        found = torch.ones((self.num_states, count, *self.datapoint_shape), dtype=torch.bool)
        for one in self.discrete:
            table = self.states[one.name].unsqueeze(1)  # (K, 1, *element, *event)
            same = table == values[one.name]
            for _ in event_shape(one.template):
                same = same.all(-1)
            for dim in range(-self.nesting, 0):
                if self.datapoint_shape[dim] == 1:
                    same = same.all(dim, keepdim=True)
            found = found & same
        return found.long().argmax(0).reshape(count, -1)

    def values_of(self, index: Tensor) -> dict[str, Tensor]:
        """Values of the latents for states ``(M, B)``: ``(M, *batch, *event)``."""
        found = {}
        chosen = index.reshape(len(index), *self.datapoint_shape)
        for one in self.discrete:
            table = self.states[one.name]
            event = event_shape(one.template)
            shape = batch_shape(self.program, one.template)
            table = table.expand(table.shape[0], *shape, *event)
            picked = chosen.expand(len(index), *shape)
            picked = picked.reshape(picked.shape + (1,) * len(event))
            found[one.name] = torch.take_along_dim(table, picked, 0)
        return found


@dataclass(frozen=True)
class Expectations:
    """Expectations over all tuples of M particles of every datapoint.

    Arguments:
        tuples: ``(T, M)`` of states.
        probability: ``(T, B)``, detached.
        objective: ``(T, B)`` of Chat_M, detached.
    """

    oracle: Oracle
    num_particles: int

    @cached_property
    def tuples(self) -> Tensor:
        states = range(self.oracle.num_states)
        return torch.tensor(list(itertools.product(states, repeat=self.num_particles)))

    @cached_property
    def tables(self) -> Tables:
        return self.oracle.tables()

    @cached_property
    def first_share(self) -> int | None:
        """How many of the particles the prior draws of a mixture."""
        guide = self.oracle.program.guide
        if guide.kind != "mixture":
            return None
        m = self.num_particles
        return min(max(round(guide.share * m), 1), m - 1)

    @cached_property
    def log_weight(self) -> Tensor:
        """``(K, B)`` (eq. 27)."""
        t = self.tables
        if t.proposed is None:
            return t.observed
        proposed = t.proposed
        if self.first_share is not None:
            share = self.first_share / self.num_particles
            parts = [t.latent + math.log(share), proposed + math.log(1 - share)]
            proposed = torch.logsumexp(torch.stack(parts), 0)
        return t.observed + t.latent - proposed

    @cached_property
    def log_law(self) -> Tensor:
        """``(T, B)``: of the tuple, as it is drawn; attached."""
        t = self.tables
        total = 0.0
        for m in range(self.num_particles):
            by_prior = t.drawn is None or (self.first_share is not None and m < self.first_share)
            law = t.law if by_prior else t.drawn
            total = total + law[self.tuples[:, m]]
        return total

    @cached_property
    def probability(self) -> Tensor:
        return self.log_law.exp().detach()

    @cached_property
    def objective(self) -> Tensor:
        """``(T, B)``, attached."""
        log_weight = self.log_weight[self.tuples]  # (T, M, B)
        return torch.logsumexp(log_weight, 1) - math.log(self.num_particles)

    @cached_property
    def responsibilities(self) -> Tensor:
        """``(T, M, B)``, detached."""
        return torch.softmax(self.log_weight[self.tuples].detach(), 1)

    def gradient(self, value: Tensor) -> Tensor:
        """Of a sum to every leaf, in one vector."""
        leaves = list(self.oracle.leaves.values())
        if not value.requires_grad:
            return torch.cat([torch.zeros(leaf.numel()) for leaf in leaves])
        found = torch.autograd.grad(value, leaves, allow_unused=True, retain_graph=True)
        rows = [
            (torch.zeros_like(leaf) if one is None else one).reshape(-1)
            for leaf, one in zip(leaves, found, strict=True)
        ]
        return torch.cat(rows)

    def _sum(self, per_tuple: Tensor) -> Tensor:
        """Of ``(T, B)``: weighted by the scale outside."""
        return (per_tuple * self.oracle.scale).sum()

    @cached_property
    def of_objective(self) -> Tensor:
        """The gradient of the sum of scale * E[Chat_M]."""
        return self.gradient(self._sum(self.log_law.exp() * self.objective))

    @cached_property
    def of_bound(self) -> Tensor:
        """The gradient of the sum of scale * E[mean of log w]: for one particle, the ELBO."""
        mean = self.log_weight[self.tuples].mean(1)
        return self.gradient(self._sum(self.log_law.exp() * mean))

    def _normalised(self, of: Tensor) -> Tensor:
        """E[sum of responsibilities * of], of ``(K, B)``, weights and law held constant."""
        return self._sum(self.probability * (self.responsibilities * of[self.tuples]).sum(1))

    @cached_property
    def of_normalised(self) -> Tensor:
        """G4: with the prior each score is of the law that the particle was drawn from."""
        t = self.tables
        latent = t.law if t.proposed is None else t.latent
        return self.gradient(self._normalised(t.observed + latent))

    @cached_property
    def of_normalised_weight(self) -> Tensor:
        """G4 with the prior's scores scaled and masked as they stand in a weight."""
        t = self.tables
        return self.gradient(self._normalised(t.observed + t.latent))

    def of_normalised_at(self, states: Tensor, slope: str | None) -> tuple[Tensor, list[Tensor]]:
        """Loss and gradient of G4, or with a slope of G2 and G3, at states ``(M, B)``.

        What a mask hides may be left out of the scores, or be noise of mean zero: several gradients
        are right at given particles, whose expectations are compared elsewhere.
        """
        columns = torch.arange(self.oracle.datapoints)
        log_weight = self.log_weight.detach()[states, columns]
        objective = torch.logsumexp(log_weight, 0) - math.log(self.num_particles)
        t = self.tables if slope is None else self.oracle.tables(slope)
        options = [t.observed]
        if slope is None:
            laws = [t.latent]
            if t.proposed is None:
                laws += [t.law, self.oracle.masked_law()]
            options = [t.observed + law for law in laws]
        weight = torch.softmax(log_weight, 0)
        totals = [(weight * of[states, columns] * self.oracle.scale).sum() for of in options]
        return -(objective * self.oracle.scale).sum(), [self.gradient(total) for total in totals]

    def of_wake(self, *, law: bool) -> Tensor:
        """The wake phase: the model by G4, the guide on the same weighted particles."""
        t = self.tables
        return self.gradient(
            self._normalised(t.observed + t.latent + (t.drawn if law else t.proposed))
        )

    def of_path(self, slope: str) -> Tensor:
        """G2 and G3: the gradient through straight-through samples, weights held constant."""
        return self.gradient(self._normalised(self.oracle.tables(slope).observed))

    @cached_property
    def of_second_order(self) -> Tensor:
        """ReinMax: the same with the slope of the trapezoidal rule, for a guide's units too."""
        t = self.oracle.tables("trapezoid")
        value = t.observed if t.proposed is None else t.observed + t.latent - t.proposed
        return self.gradient(self._normalised(value))


def coupled(probability: Tensor) -> list[tuple[float, Tensor]]:
    """Every datapoint's tuples at once: ``(weight, index (B,))``, weights adding up to one.

    The unit interval is cut where any datapoint's cumulative law has a step; in a piece each
    datapoint has one tuple. Every datapoint meets its tuples with their own probabilities, so
    the expectation of a sum over datapoints is exact.
    """
    marks = probability.cumsum(0)  # (T, B)
    marks = marks / marks[-1]
    edges = torch.unique(torch.cat([torch.zeros(1, dtype=torch.float64), marks.flatten()]))
    pieces: list[tuple[float, Tensor]] = []
    for start, stop in itertools.pairwise(edges.tolist()):
        if stop - start < 1e-15:
            continue
        middle = (start + stop) / 2
        pieces.append((stop - start, (marks <= middle).sum(0)))
    return pieces
