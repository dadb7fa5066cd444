"""One run of a Pyro program, under a plate of particles or without, checked site by site."""

import functools
import math
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from pyro import poutine
from pyro.infer.util import is_validation_enabled
from pyro.poutine import Trace
from pyro.poutine.util import site_is_subsample
from pyro.util import check_site_shape
from torch import Tensor

from sfnn_pyro.distributions.limits import at_limits
from sfnn_pyro.distributions.units import BernoulliUnits
from sfnn_pyro.distributions.wrapped import base_of, masks_of
from sfnn_pyro.particles.layout import SCALES, scales_around
from sfnn_pyro.particles.plate import PARTICLE_PLATE, ParticlePlate, is_particle_plate
from sfnn_pyro.particles.proposals import Program, components_of, is_partial, proposal_kind
from sfnn_pyro.particles.terms import carries_log_prob, sample_sites, scorable
from sfnn_pyro.recording.active import is_recording

Strategy = Callable[[Any], Any]
"""A ``poutine.reparam`` configuration: the treatment of a sample site, or None."""

PairCheck = Callable[[Trace, Trace | None, bool, Callable[[], Trace]], None]
"""Called with the traces of a model and a guide (None for the prior), whether the prior proposes
what the guide lacks, and what runs the guide once more with a graph through its auxiliary
sites."""

SEQUENTIAL_HINT = (
    "sfnn_pyro runs all particles at once, under a further plate to the left of the program's own. "
    "A program that cannot run there (it concatenates a sample with data, or branches on its "
    "value) runs with vectorize_particles=False, an option of VIMCO, G4 and most other estimators"
)


class BadValue(ValueError):
    """A site draws from NaN or holds a value outside its support; the message names it."""


class TooFewDimensions(ValueError):
    """A latent has dimensions of size 1 where the particles would lie."""

    def __init__(self, site: Any, plate_nesting: int) -> None:
        self.plate_nesting = len(site["fn"].batch_shape)
        super().__init__(
            f"site '{site['name']}' has the batch shape {tuple(site['fn'].batch_shape)}, which "
            f"max_plate_nesting={plate_nesting} leaves no room for: give {self.plate_nesting}"
        )


class Fixed(poutine.messenger.Messenger):
    """Gives latent sites their values."""

    def __init__(self, values: dict[str, Tensor]) -> None:
        super().__init__()
        self.values = values

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] in self.values and not msg["is_observed"]:
            msg["value"] = self.values[msg["name"]]
            msg["done"] = True


class SameMinibatch(poutine.messenger.Messenger):
    """Gives subsampled plates the indices that another run of the step drew.

    Arguments:
        drawn: size of the whole plate and indices, by the plate's name; new ones are added.
        strict: whether a plate of another size is an error, or draws its own.
    """

    def __init__(self, drawn: dict[str, tuple[int, Tensor]], *, strict: bool) -> None:
        super().__init__()
        self.drawn = drawn
        self.strict = strict

    def _pyro_sample(self, msg: Any) -> None:
        if not site_is_subsample(msg) or msg["done"] or msg["name"] not in self.drawn:
            return
        name, size, wanted = msg["name"], msg["fn"].size, msg["fn"].subsample_size
        full, indices = self.drawn[name]
        given = msg["value"]
        if full != size or wanted not in (None, size, len(indices)):
            if not self.strict:
                return
            raise ValueError(
                f"plate '{name}' has {len(indices)} of {full} elements in the guide (or in the "
                f"run before) and {wanted or size} of {size} in the model: give it the same size "
                "and subsample_size in both"
            )
        if given is None:
            msg["value"], msg["done"] = indices, True
        elif not _equal(given, indices):
            raise ValueError(
                f"plate '{name}': the indices given by subsample= in the model are not those that "
                "its guide (or the run before) used: give the guide the same plate, for an "
                "autoguide by create_plates"
            )

    def _pyro_post_sample(self, msg: Any) -> None:
        note_minibatch(msg, self.drawn)


def note_minibatch(site: Any, drawn: dict[str, tuple[int, Tensor]]) -> None:
    """Adds the size and the indices of a plate that is subsampled, by its name."""
    if site["type"] == "sample" and site_is_subsample(site):
        indices = site["value"]
        if not torch.is_tensor(indices):
            indices = torch.tensor([int(index) for index in indices])
        drawn.setdefault(site["name"], (site["fn"].size, indices))


def _equal(given: Any, indices: Tensor) -> bool:
    given = torch.as_tensor(given)
    return given.shape == indices.shape and bool((given.to(indices) == indices).all())


class _SiteChecks(poutine.messenger.Messenger):
    """What every sample site goes through, beside the program's own handlers.

    Discrete laws are exact at their limits, the factors of ``poutine.scale`` are noted one by
    one, an empty plate is refused before Pyro divides by its size, and so are a draw from NaN
    and an observed value that is outside the support of a site of units.
    """

    def __init__(self, plate_nesting: int | None = None) -> None:
        super().__init__()
        self.plate_nesting = plate_nesting
        self.drawn = False
        self.has_graph = torch.is_grad_enabled()

    def _pyro_sample(self, msg: Any) -> None:
        if site_is_subsample(msg):
            if 0 in (msg["fn"].size, msg["fn"].subsample_size):
                raise ValueError(
                    f"'{msg['name']}' is a plate of size 0: give at least one datapoint"
                )
            return
        if not msg["is_observed"] and carries_log_prob(msg):
            if self.has_graph and not (torch.is_grad_enabled() or msg["done"]):
                raise ValueError(
                    f"site '{msg['name']}' is drawn under torch.no_grad: the parameters of its "
                    "law would get no gradient; draw it with a graph, and detach what is constant"
                )
            if is_validation_enabled():
                check_drawn(msg)
        msg["fn"] = at_limits(msg["fn"])
        scales = scales_around()
        if scales:
            msg[SCALES] = scales
        if self.plate_nesting is not None and not self.drawn:
            # Nothing depends on a particle yet: a further dimension is no particle's.
            shape = _shape_of(msg) if carries_log_prob(msg) else torch.Size()
            if len(shape) > self.plate_nesting:
                _refuse_shape(msg, shape, self.plate_nesting)
                if not msg["is_observed"] and len(msg["fn"].batch_shape) > self.plate_nesting:
                    raise TooFewDimensions(msg, self.plate_nesting)
            self.drawn = not msg["is_observed"]

    def _pyro_post_sample(self, msg: Any) -> None:
        if not carries_log_prob(msg):
            return
        if msg["is_observed"]:
            _check_observed(msg)
        elif not isinstance(msg["fn"], BernoulliUnits) and is_validation_enabled():
            _check_value(msg)


def _check_observed(msg: Any) -> None:
    """Values of units, whose distribution does not look at them, are looked at once."""
    fn = msg["fn"]
    if not (isinstance(fn, BernoulliUnits) and fn._validate_args):
        return
    value = scorable(msg)
    if _is_binary(value):
        return
    bad = (value != 0) & (value != 1)
    for mask in masks_of(fn, msg["mask"]):
        bad = bad & mask
    if bad.any():
        first = tuple(bad.nonzero()[0].tolist())
        raise BadValue(
            f"site '{msg['name']}': the observed value {value[first].item():g} in row "
            f"{first[0] if first else 0} is outside the support of a Bernoulli, which is 0 and 1 "
            f"(the values go from {value.min().item():g} to {value.max().item():g})"
        )


def _is_binary(value: Tensor) -> bool:
    # 0 and 1 alone are their own squares; a sum of what remains is the cheapest look at it.
    square = value * value
    if not value.is_floating_point() or is_recording():
        return torch.equal(square, value)
    return square.sub_(value).abs_().sum().item() == 0


def _check_value(msg: Any) -> None:
    """Refuses a draw that is NaN, of a law whose own arguments did not tell."""
    value = msg["value"]
    if not torch.is_tensor(value) or value.device.type != "cpu" or not value.is_floating_point():
        return
    if _holds_nan(value):
        raise BadValue(
            f"site '{msg['name']}': the value drawn is NaN{_rows(value, msg['fn'].event_dim)}"
        )


def check_drawn(msg: Any) -> None:
    """Refuses a draw from a distribution that holds NaN.

    Distributions that check their own arguments have done so. On a device other than the CPU,
    where looking at a number waits for all work before it, NaN stays NaN up to the loss.
    """
    fn, base = msg["fn"], base_of(msg["fn"])
    if base._validate_args:
        return
    for name, value in arguments_of(base):
        if not torch.is_tensor(value) or value.device.type != "cpu":
            continue
        if value.is_floating_point() and _holds_nan(value):
            events = max(value.dim() - len(fn.batch_shape), 0)
            raise BadValue(
                f"site '{msg['name']}': its distribution's {name} are NaN{_rows(value, events)}: "
                "nothing can be drawn there. Look at the data in those rows and at the parameters"
            )


def _holds_nan(value: Tensor) -> bool:
    # The sum is NaN if any number is, and cheaper than to look at each.
    total = value.sum()
    is_nan = bool(total.isnan()) if is_recording() else math.isnan(total.item())
    return is_nan and bool(value.isnan().any())


def arguments_of(base: Any) -> Iterator[tuple[str, Any]]:
    """A distribution's arguments by name, those of the distributions that it is made of too."""
    for name in getattr(base, "arg_constraints", {}):
        if name in base.__dict__:
            yield name, base.__dict__[name]
    for value in base.__dict__.values():
        if isinstance(value, torch.distributions.Distribution):
            yield from arguments_of(value)


def _rows(value: Tensor, event_dim: int) -> str:
    """Where along the last batch dimension a tensor holds NaN, in words."""
    bad = value.isnan()
    bad = bad.flatten(bad.dim() - event_dim).any(-1) if event_dim else bad
    if bad.dim() == 0:
        return ""
    rows = bad.reshape(-1, bad.shape[-1]).any(0).nonzero().flatten().tolist()
    more = f" and {len(rows) - 5} more" if len(rows) > 5 else ""
    return f" in row(s) {', '.join(map(str, rows[:5]))}{more}"


def check_shapes(trace: Trace, plate_nesting: int) -> None:
    """Refuses batch dimensions that no plate declares, in Pyro's own words.

    Arguments:
        trace: of a program.
        plate_nesting: how many batch dimensions its plates may have, particles included.

    Raises:
        ValueError: Pyro's "invalid log_prob shape", with the site's name.
    """
    for site in sample_sites(trace):
        shape = _shape_of(site)
        declared = 1
        for frame in site["cond_indep_stack"]:
            if frame.dim is not None:
                declared *= frame.size
                if len(shape) < -frame.dim or shape[frame.dim] != frame.size:
                    break
        else:
            # All declared dimensions have their sizes: any other has to be of size 1.
            if math.prod(shape) == declared and len(shape) <= plate_nesting:
                continue
        _refuse_shape(site, shape, plate_nesting)


def _shape_of(site: Any) -> torch.Size:
    """The shape of a site's log-probability, with the mask and the scale around it."""
    events, shape = site["fn"].event_dim, site["fn"].batch_shape
    for name in ("value", "mask", "scale"):
        part = site[name]
        if not torch.is_tensor(part):
            continue
        own = part.shape[: part.dim() - events] if name == "value" else part.shape
        if own == shape[len(shape) - len(own) :]:
            continue
        try:
            shape = torch.broadcast_shapes(shape, own)
        except RuntimeError:
            raise ValueError(
                f"site '{site['name']}' has the batch shape {tuple(shape)}, to which its {name} of "
                f"shape {tuple(own)} does not broadcast"
            ) from None
    return shape


def _refuse_shape(site: Any, shape: torch.Size, plate_nesting: int) -> None:
    """Raises Pyro's error for a shape that it refuses, with particles or without them."""
    own = [frame for frame in site["cond_indep_stack"] if not is_particle_plate(frame)]
    try:
        _check_with_pyro(site, shape, plate_nesting, own)
    except ValueError as error:
        if own:
            raise
        particles = len(own) < len(site["cond_indep_stack"])
        dropped = " (or, where it drops a dimension of size 1, use vectorize_particles=False)"
        raise ValueError(
            f"site {site['name']!r} has the batch shape {tuple(shape)} and stands in no plate: put "
            "the sites in 'with pyro.plate(\"data\", N):', N the number of datapoints, and declare "
            f"several values of one with .to_event(1){dropped if particles else ''}; Pyro says: "
            f"{error}"
        ) from error


def _check_with_pyro(site: Any, shape: torch.Size, plate_nesting: int, own: list[Any]) -> None:
    inner = plate_nesting - (len(own) < len(site["cond_indep_stack"]))
    seen = {**site, "log_prob": torch.empty(tuple(shape), device="meta")}
    check_site_shape(seen, max(plate_nesting, len(shape)))
    # Pyro takes any size between a program's own plates and that of the particles.
    below = tuple(shape)[max(len(shape) - inner, 0) :]
    seen |= {"log_prob": torch.empty(below, device="meta"), "cond_indep_stack": tuple(own)}
    check_site_shape(seen, inner)


def trace_program(
    program: Program,
    args: tuple,
    kwargs: dict,
    *,
    num_particles: int | None,
    plate_nesting: int,
    strategy: Strategy = lambda site: None,
) -> Trace:
    """Runs a program, under a vectorised plate of particles unless None, for its trace.

    Raises:
        ValueError: a site has a batch dimension that no plate declares, draws from NaN, or holds
            a value outside its support; the message names it.
    """
    trace = run_program(
        program,
        args,
        kwargs,
        num_particles=num_particles,
        plate_nesting=plate_nesting,
        strategy=strategy,
    )
    check_shapes(trace, plate_nesting + (num_particles is not None))
    return trace


def run_program(
    program: Program,
    args: tuple,
    kwargs: dict,
    *,
    num_particles: int | None,
    plate_nesting: int,
    strategy: Strategy,
) -> Trace:
    """The same, before the shapes of its sites are looked at."""
    plate: Any = nullcontext()
    hint: Any = nullcontext()
    checks = _SiteChecks(None if num_particles is None else plate_nesting)
    if num_particles is not None:
        plate = ParticlePlate(PARTICLE_PLATE, num_particles, dim=-1 - plate_nesting)
        hint = _hinted()
    # The strategy lies inside the plate: it sees logits before they are expanded.
    with poutine.trace() as tracer, plate, poutine.reparam(config=strategy), checks, hint:
        program(*args, **kwargs)
    return tracer.trace


def forget_observations(
    guide_trace: Trace, model_trace: Trace, names: Collection[str] | None = None
) -> None:
    """Takes what the model observes out of the trace of a guide that runs the model.

    Guide messengers do, and so does a model that is its own guide: what they observe is the
    model's likelihood, and no part of the guide's density.

    Arguments:
        guide_trace: changed in place.
        model_trace: of the model.
        names: of what the model observes, if its trace does not say.
    """
    if names is None:
        names = {site["name"] for site in sample_sites(model_trace) if site["is_observed"]}
    for site in sample_sites(guide_trace):
        if site["is_observed"] and site["name"] in names:
            guide_trace.remove_node(site["name"])


@contextmanager
def _hinted() -> Iterator[None]:
    """Adds to an error of a program that cannot run under a further plate how it can."""
    try:
        yield
    except (RuntimeError, IndexError, TypeError, NotImplementedError) as error:
        error.add_note(SEQUENTIAL_HINT)
        raise


class _AuxiliaryLeaves(poutine.messenger.Messenger):
    """Makes the values of auxiliary sites the leaves of a graph."""

    def _pyro_post_sample(self, msg: Any) -> None:
        auxiliary = msg["infer"].get("is_auxiliary") and not msg["is_observed"]
        if auxiliary and msg["value"].is_floating_point():
            msg["value"] = msg["value"].detach().requires_grad_()


def run_auxiliary(guide: Program, args: tuple, kwargs: dict) -> Trace:
    """A run of a guide with a graph from its auxiliary values to all others."""
    devices = range(torch.cuda.device_count())
    tracer = poutine.trace()
    with (
        torch.random.fork_rng(devices),
        poutine.block(),
        torch.enable_grad(),
        _AuxiliaryLeaves(),
        tracer,
    ):
        guide(*args, **kwargs)
    return tracer.trace


def guess_plate_nesting(
    model: Program, guide: Program, args: tuple, kwargs: dict, check: PairCheck | None = None
) -> int:
    """How many vectorised plates are nested in model and guide, found by running them once.

    Without particles every batch dimension has to be a plate's, which is checked. The random
    state is left as it was; what is drawn, parameters included, comes from another stream, so
    that no number is used twice.

    Arguments:
        model: a Pyro model.
        guide: its guide.
        args: positional arguments of both.
        kwargs: keyword arguments of both.
        check: called with the traces of each pair of model and guide.

    Raises:
        ValueError: a site has a batch dimension that no plate declares.
    """
    devices = range(torch.cuda.device_count())
    pairs = []
    with torch.random.fork_rng(devices), poutine.block(), torch.no_grad():
        torch.manual_seed((torch.initial_seed() + int(torch.randint(2**31, ()))) % 2**63)
        for part in components_of(guide):
            with _SiteChecks():
                guide_trace = poutine.trace(part).get_trace(*args, **kwargs)
                replayed = poutine.replay(model, trace=guide_trace)
                model_trace = poutine.trace(replayed).get_trace(*args, **kwargs)
            forget_observations(guide_trace, model_trace)
            pairs.append((part, guide_trace, model_trace))
    dims = [
        frame.dim
        for _, *traces in pairs
        for trace in traces
        for site in trace.nodes.values()
        if site["type"] == "sample"
        for frame in site["cond_indep_stack"]
        if frame.vectorized
    ]
    nesting = -min(dims, default=0)
    for part, guide_trace, model_trace in pairs:
        if proposal_kind(part, model) != "prior":
            check_shapes(guide_trace, nesting)
            if check is not None:
                again = functools.partial(run_auxiliary, part, args, kwargs)
                check(model_trace, guide_trace, is_partial(part, model), again)
        check_shapes(model_trace, nesting)
    # Particles lie left of every dimension, of those of size 1 that no plate declares too.
    sites = (site for _, *traces in pairs for trace in traces for site in sample_sites(trace))
    return max([nesting, *(len(_shape_of(site)) for site in sites)])


@torch.no_grad()
def nan_weight(terms: Iterable[Any]) -> str:
    """Which site makes log-weights NaN, and in which rows, in words; empty if none does."""
    for term in terms:
        log_prob = term.log_prob()
        if log_prob.isnan().any():
            name = f"site '{term.name}'" if hasattr(term, "name") else "the proposal"
            return f"{name}: the log-probability is NaN{_rows(log_prob, 0)}"
    return ""
