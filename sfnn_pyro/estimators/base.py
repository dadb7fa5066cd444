"""The base of every estimator: Pyro's ELBO contract over per-datapoint particle weights."""

import math
import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypedDict, Unpack

import torch
from pyro.infer import ELBO
from pyro.infer.enum import get_importance_trace
from pyro.infer.util import is_validation_enabled, torch_backward
from pyro.util import warn_if_nan
from torch import Tensor
from torch.autograd import Function

from sfnn_pyro.distributions.wrapped import is_point
from sfnn_pyro.estimators.checks import (
    SITE_KINDS,
    SiteKind,
    blamed_on_data,
    check_count,
    check_finite,
    check_options,
    check_positions,
    check_proposal,
    check_site,
    check_support,
    check_transformed,
    watched_parameters,
)
from sfnn_pyro.particles import Particles, draw_particles, guess_plate_nesting
from sfnn_pyro.particles.pairs import check_pair
from sfnn_pyro.particles.programs import BadValue, TooFewDimensions, nan_weight
from sfnn_pyro.particles.proposals import ProposalKind, same_program
from sfnn_pyro.particles.terms import Term
from sfnn_pyro.particles.weights import log_mean_exp
from sfnn_pyro.recording.active import is_recording
from sfnn_pyro.reparam import ConstantSampleReparam, UnitsReparam, is_bernoulli


@dataclass(frozen=True)
class Coefficients:
    r"""What multiplies the log-probabilities in a surrogate; all ``(M, *batch)``, constant.

    With the prior as proposal, what multiplies :math:`\log R` is added to that of the prior.

    Arguments:
        observed: of :math:`\log P(y | h)`; the responsibilities (eq. 16).
        latent: of :math:`\log P(h | x)`, or None for zero.
        proposal: of :math:`\log R(h | y, x)` in the weights, or None for zero.
        score: of the log-density of whichever guide drew the particle, at sites without a path
            for gradients: the learning signal of a score-function estimator; None for zero. The
            density is that of the draw, which no scale and no mask changes.
        control: of the score of :math:`P(h | x)` at the particles that the prior drew; None for
            zero.
    """

    observed: Tensor
    latent: Tensor | None = None
    proposal: Tensor | None = None
    score: Tensor | None = None
    control: Tensor | None = None


Target = Literal["objective", "likelihood", "bound"]


@dataclass(frozen=True)
class Passes:
    """How often model and guide are run forward in one step.

    Arguments:
        whole: runs of all M particles.
        per_site: further runs of all M particles for every discrete latent site.
        per_unit: further runs of all M particles for every discrete latent unit.
        single: runs of one particle.

    Example:
        >>> Passes(per_site=1).of_particles(20, sites=2, units=400)
        60
    """

    whole: int = 1
    per_site: int = 0
    per_unit: int = 0
    single: int = 0

    def of_particles(self, num_particles: int, sites: int, units: int) -> int:
        """How many particles of a datapoint are run in a step."""
        runs = self.whole + self.per_site * sites + self.per_unit * units
        return runs * num_particles + self.single


class Options(TypedDict, total=False):
    """Keyword arguments that every estimator takes; see ``Estimator``."""

    max_plate_nesting: float
    vectorize_particles: bool
    retain_graph: bool | None
    strict_enumeration_warning: bool


class Estimator(ELBO):
    r"""A gradient estimator of the multi-sample objective, as a Pyro ELBO.

    Every subclass reports the same loss, in nats,

    .. math:: -\sum_b s_b \log \frac1M \sum_{m=1}^M w_{mb}

    (eq. 6, with weights of eq. 27 and the plate's scale s outside the logarithm) and differs
    in the surrogate whose gradient is taken. Use it in ``SVI``, or as
    ``Estimator(...)(model, guide)``, a ``torch.nn.Module`` for PyTorch's own optimizers.

    What one datapoint is: an element of the plates that *all* latent and observed sites share.
    Sites in further plates are summed into it. A latent, an observed site or a ``pyro.factor``
    outside the data plate makes the whole minibatch one datapoint; ``pyro.deterministic`` only
    records and counts for nothing. The subsampling of the shared plates and a
    ``poutine.scale`` that every site carries multiply the objective, outside the logarithm; a
    scale or a mask of single sites is part of their log-probability. A score is of the law that
    drew the particle, which no scale and no mask changes.

    Arguments:
        num_particles: M, at least 1.
        max_plate_nesting: how many plates model and guide nest; found on the first call of each
            pair by running them once, if it is not given.
        vectorize_particles: run model and guide once under a plate of particles, or once for
            every particle: slow, for programs that cannot run under a further plate.
        retain_graph: as in Pyro's losses, kept for a backward pass through a shared graph.
        strict_enumeration_warning: accepted as by Pyro's losses; nothing is enumerated here.

    Raises:
        ValueError: ``num_particles`` is too small, or on a call the pair of model and guide is
            one that the estimator cannot handle; the message names the site and a sibling.
    """

    target: Target
    """What the gradient aims at: ``"objective"``, E[Chat_M]; ``"likelihood"``, log P(y|x); or
    ``"bound"``, E[Chat_1]."""
    unbiased: bool
    """Whether the expected gradient equals the target's for every M."""
    proposals: tuple[ProposalKind, ...] = ("prior", "guide", "mixture")
    """Which proposals it accepts."""
    why_not: str = "use VIMCO or G4, which take any proposal"
    """The advice in the error about a proposal that it does not accept."""
    sites: tuple[SiteKind, ...] = SITE_KINDS
    """Which kinds of latent sites it accepts."""
    min_particles: int = 1
    """The least M for which it is defined."""
    passes: Passes = Passes()
    """How often a step runs model and guide forward."""
    pathwise: bool = False
    """Whether gradients pass through reparameterisable samples, or those are held constant."""
    responsibility_weighted: bool = False
    """Whether every coefficient is the particle's responsibility or zero."""
    trains_guide: bool = False
    """Whether a guide has an objective of its own beside the model's."""
    divisible: bool = True
    """Whether its gradient is a weighted sum over particles, each run's part its own."""
    whole_because: str = "needs all its particles at once"
    """Why it is not divisible, where it is not."""
    returns_number: bool = True
    """Whether ``loss_and_grads`` returns a ``float``."""

    replayable: bool = True
    """Whether a step can be recorded once and replayed."""

    max_plate_nesting: float

    def __init__(self, num_particles: int = 20, *more: Any, **options: Unpack[Options]) -> None:
        check_positions(self, more)
        check_count(self, num_particles)
        check_options(self, options, Options.__annotations__)
        vectorize_particles = options.pop("vectorize_particles", True)
        super().__init__(num_particles=num_particles, **options)
        self.vectorize_particles = vectorize_particles
        self._nesting_given = math.isfinite(self.max_plate_nesting)
        self._nestings: list[tuple[Callable, Callable, int]] = []
        self._checked: tuple | None = None
        self._pair: tuple[Callable, Callable] | None = None
        self._warned = False

    def state_dict(self) -> dict[str, Any]:
        """What must be saved so that a training resumes exactly; most estimators keep nothing."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up a state that ``state_dict`` returned."""
        if state:
            raise ValueError(f"{type(self).__name__} keeps no state and got {sorted(state)}")

    def see_rows(self, rows: Tensor) -> None:
        """Says which rows of the training data the next step holds; most estimators do not ask."""

    @abstractmethod
    def coefficients(self, log_weight: Tensor) -> Coefficients:
        """The surrogate's coefficients, from detached log-weights ``(M, *batch)``."""

    def strategy(self, site: Any) -> Any:
        """The treatment of a sample site while particles are drawn: here, held constant."""
        if not site["is_observed"]:
            check_site(self, site)
        if is_bernoulli(site["fn"]):
            return UnitsReparam()
        # A point mass has no slope of its own: what it depends on is reached by its path alone.
        constant = site["fn"].has_rsample and not is_point(site["fn"])
        if constant and not (site["is_observed"] or self.pathwise):
            check_support(self, site)
            return ConstantSampleReparam()
        return None

    def surrogate(self, particles: Particles, log_weight: Tensor) -> Tensor:
        """A scalar whose gradient is the estimate of the objective's.

        Arguments:
            particles: as drawn under ``strategy``.
            log_weight: their detached log-weights ``(M, *batch)``.
        """
        return self.surrogate_from(particles, self.coefficients(log_weight))

    def surrogate_from(self, particles: Particles, c: Coefficients) -> Tensor:
        """The same, from coefficients that are known already: a part's, of a divided run.

        Arguments:
            particles: those of the part.
            c: their share of the coefficients of all particles.
        """
        return weighted_surrogate(particles, c)

    @torch.no_grad()
    def loss(self, model: Callable, guide: Callable, *args: Any, **kwargs: Any) -> float:
        """The loss in nats, without gradients."""
        particles = self.draw(model, guide, args, kwargs)
        value = -self.objective(particles, particles.log_weight()).item()
        return checked_loss(value, args, particles)

    def differentiable_loss(
        self, model: Callable, guide: Callable, *args: Any, **kwargs: Any
    ) -> Tensor:
        """The loss as a scalar tensor whose gradient is the estimate."""
        particles = self.draw(model, guide, args, kwargs)
        log_weight = particles.log_weight().detach()
        surrogate = self.surrogate(particles, log_weight)
        check_trained(self, particles, surrogate)
        # Attached to a learned scale alone: the log-weights are constants here.
        attached = self.objective(particles, log_weight)
        value = -attached.detach()
        if attached.requires_grad:
            surrogate = surrogate + attached
        if value.device.type == "cpu" and not is_recording():  # whose replay is looked at
            checked_loss(value.item(), args, particles)
        return with_gradient_of(value, -surrogate)

    def add_gradients(self, model: Callable, guide: Callable, *args: Any, **kwargs: Any) -> Tensor:
        """Adds the estimate to the parameters' gradients; the loss stays on its device.

        Raises:
            ValueError: Pyro's parameter store holds a parameter of another model under the same
                name, which ``SVI`` would train instead.
        """
        with watched_parameters(model, guide, args, kwargs):
            loss = self.differentiable_loss(model, guide, *args, **kwargs)
        torch_backward(loss, retain_graph=self.retain_graph)
        return loss.detach()

    def loss_and_grads(self, model: Callable, guide: Callable, *args: Any, **kwargs: Any) -> Any:
        """Adds the estimated gradients to the parameters' and returns the loss in nats."""
        loss = self.add_gradients(model, guide, *args, **kwargs)
        value = loss.item()
        if loss.device.type != "cpu":  # where the loss was not looked at before
            checked_loss(value, args)
        return value

    def _get_trace(self, model: Callable, guide: Callable, args: tuple, kwargs: dict) -> Any:
        """One sequential pair of traces, for Pyro's utilities that ask an ELBO for it."""
        return get_importance_trace("flat", self.max_plate_nesting, model, guide, args, kwargs)

    def objective(self, particles: Particles, log_weight: Tensor) -> Tensor:
        """The scaled sum over datapoints of Chat_M, in nats."""
        return (log_mean_exp(log_weight) * particles.scale).sum()

    def draw(
        self,
        model: Callable,
        guide: Callable,
        args: tuple,
        kwargs: dict,
        num_particles: int | None = None,
    ) -> Particles:
        """Checks a pair of model and guide and draws its particles, M unless given."""
        check_proposal(self, model, guide)
        count = num_particles or self.num_particles
        try:
            particles = self._drawn(model, guide, args, kwargs, count)
        except BadValue as error:
            raise blamed_on_data(args, error) from None
        if not self.pathwise and torch.is_grad_enabled():
            check_transformed(self, particles)
        self._warn_if_no_bound(particles)
        return particles

    def _drawn(
        self, model: Callable, guide: Callable, args: tuple, kwargs: dict, num_particles: int
    ) -> Particles:
        if self._pair is None or not all(map(same_program, self._pair, (model, guide))):
            self._pair, self._checked = (model, guide), None
        known = list(self._nestings)
        nesting = self._nesting(model, guide, args, kwargs)

        def draw(nesting: int) -> Particles:
            return draw_particles(
                model,
                guide,
                args,
                kwargs,
                num_particles=num_particles,
                plate_nesting=nesting,
                strategy=self.strategy,
                vectorize=self.vectorize_particles,
                check=self._check,
            )

        try:
            return draw(nesting)
        except BadValue:
            raise
        except ValueError as error:
            if self._nesting_given and isinstance(error, TooFewDimensions):
                self.max_plate_nesting = error.plate_nesting  # which later steps begin with
                return draw(error.plate_nesting)
            # The program may have got another plate since it was looked at.
            if self._nesting_given or self._nestings != known:
                raise
            self._nestings, self.max_plate_nesting = [], math.inf
            again = self._nesting(model, guide, args, kwargs)
            if again == nesting:
                raise
            return draw(again)

    def _warn_if_no_bound(self, particles: Particles) -> None:
        """Warns once of a subsampled plate whose factor has to stay inside the logarithm."""
        names = particles.layout.inner_subsampled if particles.layout is not None else ()
        if self._warned or not names:
            return
        self._warned = True
        stays = "whose gradient, that of the bound of one sample, stays unbiased"
        way_out = f"Give the whole plate, or use RLOO, {stays}"
        if self.target == "bound":
            way_out = "The gradient, that of the bound of one sample, is unbiased all the same"
        warnings.warn(
            f"plate '{names[0]}' is subsampled and not shared by all sites: its factor stays "
            f"inside the logarithm, so that the reported loss is no bound of -log P(y). {way_out}",
            UserWarning,
            stacklevel=3,
        )

    def _nesting(self, model: Callable, guide: Callable, args: tuple, kwargs: dict) -> int:
        """How many plates this pair nests; found once for each of the last pairs."""
        if not self._nestings and math.isfinite(self.max_plate_nesting):
            self._nesting_given = True  # also where it was set after construction
        if self._nesting_given:
            return int(self.max_plate_nesting)
        for known_model, known_guide, nesting in self._nestings:
            if same_program(known_model, model) and same_program(known_guide, guide):
                return nesting
        check = self._check if is_validation_enabled() else None
        self.max_plate_nesting = nesting = guess_plate_nesting(model, guide, args, kwargs, check)
        self._nestings = [(model, guide, nesting), *self._nestings[:7]]
        return nesting

    def _check(self, model_trace: Any, guide_trace: Any, partial: bool, again: Any) -> None:
        """Checks a pair's traces when their sites are not those of the last call."""
        guide_sites = None if guide_trace is None else tuple(guide_trace.nodes)
        sites = tuple(model_trace.nodes), guide_sites, partial
        if sites != self._checked:
            check_pair(model_trace, guide_trace, partial, again)
            self._checked = sites


def with_gradient_of(value: Tensor, surrogate: Tensor) -> Tensor:
    """A value whose gradient is that of another scalar.

    What every estimator returns: the objective's value, and a surrogate whose gradient is the
    estimate and whose value means nothing. A gradient of the gradient would be that of the
    surrogate, with its coefficients held constant: it is refused.
    """
    return _WithGradientOf.apply(value, surrogate)


class _WithGradientOf(Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, surrogate: Tensor) -> Tensor:
        return value.detach().clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor]:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "an estimate of a gradient has no derivative: its coefficients are constants. "
                "Take the gradient without create_graph=True"
            )
        return None, grad


def check_trained(estimator: Estimator, particles: Particles, surrogate: Tensor) -> None:
    """Refuses a step that trains nothing, though the guide has something to learn."""
    if surrogate.requires_grad or particles.is_prior or estimator.trains_guide:
        return
    if not torch.is_grad_enabled():
        return
    if any(term.log_prob().requires_grad for term in particles.proposal or ()):
        raise ValueError(
            f"{type(estimator).__name__} trains the model alone, which has no parameter that the "
            "loss depends on; to train the guide use VIMCO, RLOO or ReweightedWakeSleep"
        )


def checked_loss(value: float, args: tuple, particles: Particles | None = None) -> float:
    """The loss; if it is NaN, an error when the data are at fault, else Pyro's warning."""
    if not math.isnan(value):
        return value
    where = None if particles is None else nan_weight(term for term, _ in particles.signed_terms())
    try:
        check_finite(args)
    except ValueError as error:
        raise ValueError(f"{error}; {where}" if where else str(error)) from None
    warn_if_nan(value, f"loss; {where}" if where else "loss")
    return value


def weighted_surrogate(particles: Particles, c: Coefficients) -> Tensor:
    """A scalar with the gradient of the particles' log-probabilities, weighted."""
    return weighted_sum(coefficient_pulls(particles, c), particles.scale, c.observed)


def coefficient_pulls(particles: Particles, c: Coefficients) -> "list[Pull]":
    """All terms with the coefficients of their log-probabilities and scores.

    What the prior proposed is in no weight: its coefficients are those of the law's score.
    """
    by_prior = {id(term) for term in particles.proposed_by_prior}
    proposal = [term for term in particles.proposal or () if id(term) not in by_prior]
    weighted = [term for term in particles.latent if id(term) not in by_prior]
    pulls: list[Pull] = [
        (particles.observed, c.observed, None),
        (weighted, c.latent, None),
        (proposal, c.proposal, None),
        (particles.proposed_by_prior, None, c.latent),
        (particles.proposed_by_prior, None, c.proposal),
    ]
    if c.score is not None:
        pulls += score_pulls(particles, lambda term: c.score)
    for component in particles.components:
        if c.control is not None and component.is_prior:
            pulls.append((component.terms, None, component.own(c.control)))
    return pulls


Pull = tuple[Sequence[Term], Tensor | None, Tensor | None]
"""Terms, the coefficient of their log-probability, and that of their score."""


def score_pulls(particles: Particles, signal: Callable[[Term], Any]) -> list[Pull]:
    """The score of every value that was drawn without a path, times its learning signal."""
    return [
        ([term], None, component.own(signal(term)))
        for component in particles.components
        for term in component.terms
        if term.drawn and not term.has_path
    ]


def learned_pulls(particles: Particles, weight: Tensor) -> "list[Pull]":
    """The guides that learn, drawn to particles of given weights, but for the model's own terms."""
    prior = {id(term) for term in particles.latent}  # of a mixture, or of a partial guide
    return [
        ([term for term in part.terms if id(term) not in prior], weight, None)
        for part in particles.components
        if not part.is_prior
    ]


def weighted_sum(pulls: Iterable[Pull], scale: Any, like: Tensor) -> Tensor:
    """A scalar with the gradient of the sum of scale * coefficient * log-probability.

    The coefficients of a term that occurs more than once are added up first.
    """
    totals: dict[int, tuple[Term, Tensor | None, Tensor | None]] = {}
    for terms, coefficient, score in pulls:
        if coefficient is None and score is None:
            continue
        for term in terms:
            _, before, score_before = totals.get(id(term), (term, None, None))
            totals[id(term)] = term, _added(before, coefficient), _added(score_before, score)
    parts = [
        term.weighted(_scaled(coefficient, scale), _scaled(score, scale))
        for term, coefficient, score in totals.values()
    ]
    return sum(parts[1:], parts[0]) if parts else like.new_zeros(())


def _added(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    return b if a is None else a if b is None else a + b


def _scaled(coefficient: Tensor | None, scale: Any) -> Tensor | None:
    if coefficient is None or (not torch.is_tensor(scale) and scale == 1.0):
        return coefficient
    return coefficient * (scale.detach() if torch.is_tensor(scale) else scale)
