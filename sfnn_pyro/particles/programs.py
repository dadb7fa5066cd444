"""One run of a Pyro program, under a plate of particles or without, checked site by site."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from pyro import poutine
from pyro.infer.util import is_validation_enabled
from pyro.poutine import Trace
from pyro.poutine.guide import GuideMessenger
from pyro.poutine.util import site_is_subsample
from pyro.util import check_site_shape
from torch import Tensor

from sfnn_pyro.distributions.limits import at_limits
from sfnn_pyro.distributions.units import BernoulliUnits
from sfnn_pyro.distributions.wrapped import base_of
from sfnn_pyro.particles.layout import SCALES, scales_around
from sfnn_pyro.particles.plate import PARTICLE_PLATE, ParticlePlate
from sfnn_pyro.particles.proposals import Program, components_of, is_partial, proposal_kind
from sfnn_pyro.particles.terms import carries_log_prob, sample_sites

Strategy = Callable[[Any], Any]
"""A ``poutine.reparam`` configuration: the treatment of a sample site, or None."""

PairCheck = Callable[[Trace, Trace | None, bool], None]
"""Called with the traces of a model and a guide (None for the prior), and whether the prior
proposes what the guide lacks."""

SEQUENTIAL_HINT = (
    "sfnn_pyro runs all particles at once, under a further plate to the left of the program's own. "
    "A program that cannot run there (it concatenates a sample with data, or branches on its "
    "value) runs with vectorize_particles=False, an option of VIMCO, G4 and most other estimators"
)


class BadValue(ValueError):
    """A site draws from NaN or holds a value outside its support; the message names it."""


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
        if not site_is_subsample(msg):
            return
        size, indices = msg["fn"].size, msg["value"]
        if torch.is_tensor(indices) and len(indices) != size:
            self.drawn.setdefault(msg["name"], (size, indices))


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

    def _pyro_sample(self, msg: Any) -> None:
        if site_is_subsample(msg):
            if 0 in (msg["fn"].size, msg["fn"].subsample_size):
                raise ValueError(
                    f"'{msg['name']}' is a plate of size 0: give at least one datapoint"
                )
            return
        if not msg["is_observed"] and is_validation_enabled() and carries_log_prob(msg):
            check_drawn(msg)
        msg["fn"] = at_limits(msg["fn"])
        scales = scales_around()
        if scales:
            msg[SCALES] = scales
        if self.plate_nesting is not None and not self.drawn:
            # Nothing depends on a particle yet: a further dimension is no particle's.
            if len(msg["fn"].batch_shape) > self.plate_nesting and carries_log_prob(msg):
                _refuse_shape(msg, msg["fn"].batch_shape, self.plate_nesting)
            self.drawn = not msg["is_observed"]

    def _pyro_post_sample(self, msg: Any) -> None:
        if msg["is_observed"] and carries_log_prob(msg):
            _check_observed(msg)


def _check_observed(msg: Any) -> None:
    """Values of units, whose distribution does not look at them, are looked at once."""
    fn, value = msg["fn"], msg["value"]
    if not (isinstance(fn, BernoulliUnits) and fn._validate_args):
        return
    bad = (value != 0) & (value != 1)
    if bad.any():
        first = tuple(bad.nonzero()[0].tolist())
        raise BadValue(
            f"site '{msg['name']}': the observed value {value[first].item():g} in row "
            f"{first[0] if first else 0} is outside the support of a Bernoulli, which is 0 and 1 "
            f"(the values go from {value.min().item():g} to {value.max().item():g})"
        )


def check_drawn(msg: Any) -> None:
    """Refuses a draw from a distribution that holds NaN.

    Distributions that check their own arguments have done so. On a device other than the CPU,
    where looking at a number waits for all work before it, NaN stays NaN up to the loss.
    """
    fn, base = msg["fn"], base_of(msg["fn"])
    if base._validate_args:
        return
    for name in getattr(base, "arg_constraints", {}):
        value = base.__dict__.get(name)
        if not torch.is_tensor(value) or value.device.type != "cpu":
            continue
        # The sum is NaN if any number is, and cheaper than to look at each.
        if value.is_floating_point() and value.sum().isnan() and value.isnan().any():
            events = max(value.dim() - len(fn.batch_shape), 0)
            raise BadValue(
                f"site '{msg['name']}': its distribution's {name} are NaN{_rows(value, events)}: "
                "nothing can be drawn there. Look at the data in those rows and at the parameters"
            )


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
        fn, value = site["fn"], site["value"]
        shape = fn.batch_shape
        own = value.shape[: value.dim() - fn.event_dim] if torch.is_tensor(value) else shape
        if own != shape:
            shape = torch.broadcast_shapes(shape, own)
        declared = [1] * plate_nesting
        for frame in site["cond_indep_stack"]:
            if frame.dim is not None and -frame.dim <= plate_nesting:
                declared[frame.dim] = frame.size
        if list(shape) != declared[plate_nesting - len(shape) :]:
            _refuse_shape(site, shape, plate_nesting)


def _refuse_shape(site: Any, shape: torch.Size, plate_nesting: int) -> None:
    seen = {**site, "log_prob": torch.empty(shape, device="meta")}
    check_site_shape(seen, max(plate_nesting, len(shape)))


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
    return _without_observations(tracer.trace, program)


def _without_observations(trace: Trace, guide: Program) -> Trace:
    """The trace of a guide that runs the model, less what the model observes."""
    if isinstance(guide, GuideMessenger):
        for site in sample_sites(trace):
            if site["is_observed"]:
                trace.remove_node(site["name"])
    return trace


@contextmanager
def _hinted() -> Iterator[None]:
    """Adds to an error of a program that cannot run under a further plate how it can."""
    try:
        yield
    except (RuntimeError, IndexError, TypeError, NotImplementedError) as error:
        error.add_note(SEQUENTIAL_HINT)
        raise


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
            pairs.append((part, _without_observations(guide_trace, part), model_trace))
    dims = [
        frame.dim
        for _, *traces in pairs
        for trace in traces
        for site in sample_sites(trace)
        for frame in site["cond_indep_stack"]
        if frame.vectorized
    ]
    nesting = -min(dims, default=0)
    for part, guide_trace, model_trace in pairs:
        if proposal_kind(part, model) != "prior":
            check_shapes(guide_trace, nesting)
            if check is not None:
                check(model_trace, guide_trace, is_partial(part, model))
        check_shapes(model_trace, nesting)
    return nesting


@torch.no_grad()
def nan_weight(terms: Iterable[Any]) -> str:
    """Which site makes log-weights NaN, and in which rows, in words; empty if none does."""
    for term in terms:
        log_prob = term.log_prob()
        if log_prob.isnan().any():
            name = f"site '{term.name}'" if hasattr(term, "name") else "the proposal"
            return f"{name}: the log-probability is NaN{_rows(log_prob, 0)}"
    return ""
