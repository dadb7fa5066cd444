"""Completions of partly known outputs, by importance resampling of the hidden layers."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor

from sfnn_pyro.distributions.limits import at_limits, units_at_limits
from sfnn_pyro.distributions.wrapped import base_of, name_of, with_base
from sfnn_pyro.estimators.checks import check_whole
from sfnn_pyro.evaluation.likelihoods import ranges
from sfnn_pyro.particles import (
    Fixed,
    Layout,
    MixtureOf,
    Particles,
    PriorOf,
    SiteTerm,
    draw_particles,
    guess_plate_nesting,
    sample_sites,
    total_log_prob,
    trace_program,
)
from sfnn_pyro.particles.programs import nan_weight
from sfnn_pyro.particles.terms import carries_log_prob
from sfnn_pyro.particles.weights import effective_sample_size, log_mean_exp, responsibilities
from sfnn_pyro.reparam import exact_units
from sfnn_pyro.system.arguments import check_tensor


@dataclass(frozen=True)
class Imputation:
    """What the known part of y says about the rest.

    Arguments:
        samples: ``(S, B, dy)``, whole outputs; known entries are as given.
        log_likelihood_known: ``(B,)``, of the known entries given x, in nats.
        log_likelihood_rest: ``(B,)``, of the other entries *as they were given*, given x and the
            known ones, in nats; of no meaning where they were placeholders.
        effective_sample_size: ``(B,)``, between 1 and M.
    """

    samples: Tensor
    log_likelihood_known: Tensor
    log_likelihood_rest: Tensor
    effective_sample_size: Tensor


@torch.no_grad()
def impute(
    model: Callable[..., Any],
    x: Tensor,
    y: Tensor,
    known: Tensor,
    *,
    guide: Callable[..., Any] | None = None,
    num_samples: int = 10,
    num_particles: int = 1000,
    batch_size: int = 20,
    site: str = "y",
    fill: float = 0.0,
    poor: float = 10.0,
    on_batch: Callable[[int], None] | None = None,
) -> Imputation:
    r"""Samples and likelihoods of the unknown part of y, given x and the known part.

    .. math::
        P(y_u | y_k, x) \approx \sum_m \bar w_m P(y_u | h_m), \qquad
        w_m = \frac{P(y_k | h_m) P(h_m | x)}{R(h_m | y_k, x)}

    Particles are drawn from the guide, weighted by the known entries, resampled, and complete the
    output. Exact as M grows, whatever the guide; a guide that has seen the known entries needs
    far fewer particles than the prior.

    References:
        Raiko et al., ICLR 2015, eqs. 24 to 28; Gordon, Salmond, Smith, 1993.

    Arguments:
        model: a Pyro model with the signature ``model(x, y)``, whose elements of y are
            independent given its latents. What else it observes is conditioned on.
        x: ``(B, dx)``.
        y: ``(B, dy)``; unknown entries may hold anything finite.
        known: booleans that broadcast to ``y``.
        guide: the proposal, given x and y with ``fill`` in the unknown entries; the model's prior
            unless given.
        num_samples: S.
        num_particles: M.
        batch_size: datapoints at a time; memory is that of ``batch_size * num_particles``.
        site: name of the observed site.
        fill: what the guide sees in the place of an unknown entry.
        poor: warn where the effective sample size is below this.
        on_batch: called after every slice with the number of its datapoints.

    Raises:
        ValueError: a count is below 1, ``known`` does not fit y, the site is missing, or its
            elements cannot be masked one by one.

    Warns:
        RuntimeWarning: the effective sample size is below ``poor`` somewhere.

    Example:
        >>> import torch
        >>> from sfnn_pyro.models import SFNN
        >>> x, y = torch.zeros(5, 4), torch.ones(5, 6)
        >>> known = torch.tensor([True, True, True, False, False, False])
        >>> result = impute(SFNN([4, 3, 6]), x, y, known, num_samples=7)
        >>> result.samples.shape, result.log_likelihood_rest.shape
        (torch.Size([7, 5, 6]), torch.Size([5]))
    """
    counts = {
        "num_samples": num_samples,
        "num_particles": num_particles,
        "batch_size": batch_size,
    }
    for name, count in counts.items():
        check_whole(name, count, 1)
    for name, value in {"x": x, "y": y, "known": known}.items():
        check_tensor(name, value)
    if not known.eq(known.bool()).all():
        raise ValueError("known holds other values than 0 and 1: give booleans")
    if not len(y):
        raise ValueError("y has no rows: give at least one datapoint")
    try:
        known = known.bool().expand(y.shape)
    except RuntimeError:
        raise ValueError(
            f"known has shape {tuple(known.shape)}, which does not broadcast to that of y, "
            f"{tuple(y.shape)}"
        ) from None
    if y.is_floating_point() and y[known].isnan().any():
        raise ValueError("y holds NaN in an entry that is known: leave it out of known")
    if y.is_floating_point():
        y = torch.where(known, y, y.nan_to_num(fill))
    proposal = PriorOf(model) if guide is None else guide
    parts = []
    for start, stop in ranges(len(y), batch_size):
        rows = slice(start, stop)
        parts.append(
            _impute(
                model,
                proposal,
                x[rows],
                y[rows],
                known[rows],
                num_samples,
                num_particles,
                site,
                fill,
            )
        )
        if on_batch is not None:
            on_batch(stop - start)
    samples, known_nats, rest_nats, sizes = zip(*parts, strict=True)
    result = Imputation(
        torch.cat(samples, 1), torch.cat(known_nats), torch.cat(rest_nats), torch.cat(sizes)
    )
    low = result.effective_sample_size < poor
    if low.any():
        warnings.warn(
            f"{int(low.sum())} of {len(y)} datapoints have an effective sample size below "
            f"{poor:g} (the least is {result.effective_sample_size.min():.1f} of {num_particles}): "
            "their samples repeat few hidden states. Use more particles, or a guide trained on "
            "such observations",
            RuntimeWarning,
            stacklevel=2,
        )
    return result


def _impute(
    model: Callable,
    guide: Callable,
    x: Tensor,
    y: Tensor,
    known: Tensor,
    num_samples: int,
    num_particles: int,
    site: str,
    fill: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    nesting = guess_plate_nesting(model, guide, (x, y), {})
    seen = torch.where(known, y, torch.full_like(y, fill))
    with _PartlyObserved(site, known) as partly:
        particles = draw_particles(
            model,
            guide,
            (x, seen),
            {},
            num_particles=num_particles,
            plate_nesting=nesting,
            strategy=exact_units,
        )
    if partly.value is None:
        raise ValueError(f"site={site!r}: the model observes no site of this name")
    if partly.latents_after and isinstance(guide, MixtureOf):
        raise ValueError(
            f"site '{partly.latents_after[0]}' is drawn after '{site}' and may depend on it, "
            "which a mixture of proposals cannot weight; use one of its guides"
        )
    log_weight = particles.log_weight()  # (M, *batch)
    if log_weight[0].numel() != len(y):
        raise ValueError(
            f"the model's weights have shape {tuple(log_weight.shape)} for {len(y)} datapoints: "
            "every latent site must lie in the data plate"
        )
    if log_weight.isnan().any():
        raise ValueError(nan_weight(term for term, _ in particles.signed_terms()))
    if (log_weight.amax(0) == -torch.inf).any():
        raise ValueError(
            f"num_particles={num_particles}: no particle can have produced the known part of "
            "some datapoint; use more particles, or a guide that has seen it"
        )
    index = _resampled(responsibilities(log_weight), num_samples)
    if partly.observed_after:
        # What is observed after y may depend on it: its draw is part of the particle.
        drawn = _taken(partly.value, index)
    else:
        latents = {name: _taken(value, index) for name, value in _latents(particles).items()}
        with _PartlyObserved(site, known) as again, Fixed(latents):
            trace_program(model, (x, seen), {}, num_particles=num_samples, plate_nesting=nesting)
        assert again.value is not None
        drawn = again.value
    rows = len(y)
    log_known = log_mean_exp(log_weight)
    whole = _log_weight_of_whole(model, particles, (x, y), nesting)
    whole = torch.where(log_weight == -torch.inf, -torch.inf, log_weight + whole)
    return (
        torch.where(known, y, drawn.to(y)),
        log_known.reshape(rows),
        (log_mean_exp(whole) - log_known).reshape(rows),
        effective_sample_size(log_weight).reshape(rows),
    )


def _log_weight_of_whole(
    model: Callable, particles: Particles, args: tuple, nesting: int
) -> Tensor:
    """What the log-weights of the same particles change by when all of y is observed."""
    with Fixed(_latents(particles)):
        trace = trace_program(
            model,
            args,
            {},
            num_particles=particles.num_particles,
            plate_nesting=nesting,
            strategy=exact_units,
        )
    sites = sample_sites(trace)
    layout = Layout.of(sites, nesting)
    whole = total_log_prob([layout.term(site) for site in sites])
    return whole - total_log_prob([*particles.observed, *particles.latent])


class _PartlyObserved(Messenger):
    """Observes some elements of a site, draws the others, and weights the former alone."""

    def __init__(self, site: str, known: Tensor) -> None:
        super().__init__()
        self.site, self.known = site, known
        self.value: Tensor | None = None
        self._run: dict[str, bool] = {}  # sites of this run, and whether they are observed
        self._model: dict[str, bool] = {}  # of the last run that met the site

    def _after(self, observed: bool) -> list[str]:
        names = list(self._model)
        after = names[names.index(self.site) + 1 :]
        return [name for name in after if self._model[name] is observed]

    @property
    def observed_after(self) -> list[str]:
        """Observed sites after this one, which may depend on it."""
        return self._after(True)

    @property
    def latents_after(self) -> list[str]:
        """Latent sites after this one, which may depend on it."""
        return self._after(False)

    def _pyro_sample(self, msg: Any) -> None:
        if not carries_log_prob(msg):
            return
        if msg["name"] in self._run:
            self._run = {}
        self._run[msg["name"]] = bool(msg["is_observed"])
        if self.site in self._run:
            self._model = self._run
        if msg["name"] != self.site or not msg["is_observed"]:
            return
        fn = msg["fn"]
        if len(base_of(fn).event_shape):
            raise ValueError(
                f"site '{msg['name']}': the elements of a {name_of(fn)} cannot be masked one "
                "by one; impute takes observations that are independent given the latents"
            )
        drawn = fn.sample()
        self.value = torch.where(self.known, msg["value"].to(drawn), drawn)
        msg["value"] = self.value
        msg["fn"] = with_base(fn, lambda base: units_at_limits(at_limits(base)).mask(self.known))


def _latents(particles: Particles) -> dict[str, Tensor]:
    terms = [term for term in particles.latent if isinstance(term, SiteTerm)]
    return {term.name: term.value for term in terms}


def _resampled(weight: Tensor, num_samples: int) -> Tensor:
    """``(S, *batch)``: which of the M particles each of S draws of every datapoint is."""
    flat = weight.movedim(0, -1)  # (*batch, M)
    index = torch.multinomial(flat.reshape(-1, flat.shape[-1]), num_samples, replacement=True)
    return index.T.reshape(num_samples, *weight.shape[1:])


def _taken(value: Tensor, index: Tensor) -> Tensor:
    """The particles' values at the drawn indices, all sites by the same."""
    index = index.reshape(index.shape + (1,) * (value.dim() - index.dim()))
    return torch.take_along_dim(value, index, 0)
