"""Specifications of small Pyro programs: plain data, read by an interpreter and by an oracle.

A program is a list of sites in the order in which they run, the plates and loops around them, the
handlers around some of them, and what the guide is. A site's natural parameter is a bias for each
unit plus one slope for each parent, times a number that is read off the parent's value. Nothing
here knows of Pyro or of the package under test.
"""

import itertools
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

CATEGORIES = 3
TRIALS = 2

DISCRETE = ("bernoulli", "categorical", "onehot", "binomial")
"""Families of latents that the oracle enumerates."""


@dataclass(frozen=True)
class Plate:
    """A vectorised plate: ``size`` elements seen, of ``full`` if it is subsampled.

    ``indices``: None, ``"given"`` (an explicit ``subsample=``) or ``"drawn"``.
    """

    name: str
    size: int
    dim: int
    full: int | None = None
    indices: str | None = None


@dataclass(frozen=True)
class Loop:
    """Sites that run several times: a sequential plate (perhaps subsampled) or ``pyro.markov``."""

    name: str
    size: int
    kind: str = "plate"
    full: int | None = None


@dataclass(frozen=True)
class Site:
    """One statement: ``units`` is 0 for a scalar, else the length of a vector (``to_event``).

    ``observed`` is "", "obs" or "condition". With ``do`` the site stays a latent, and what depends
    on it sees the value of an intervention. ``hidden`` blocks the site: it runs, and counts for
    nothing.
    """

    name: str
    family: str
    plates: tuple[str, ...] = ()
    units: int = 0
    form: str = "logits"
    parents: tuple[str, ...] = ()
    observed: str = ""
    loop: str | None = None
    previous: bool = False
    infer: bool = False
    do: bool = False
    hidden: bool = False


@dataclass(frozen=True)
class Handler:
    """A scale or a mask around some sites.

    Arguments:
        kind: "scale", "mask", or "dist_mask" (the ``.mask`` of a distribution).
        sites: names of the sites inside.
        value: the number, or the truth value; with ``plate`` it only seeds a tensor.
        plate: the plate over whose elements it varies.
        outside: outside the plates, or inside.
        in_guide: whether the guide has it, too.
        tensor: whether a number is handed over as a tensor without dimensions.
    """

    kind: str
    sites: tuple[str, ...]
    value: float = 1.0
    plate: str | None = None
    outside: bool = True
    in_guide: bool = True
    tensor: bool = False


@dataclass(frozen=True)
class Guide:
    """What proposes: ``prior``, ``mean_field``, ``conditional`` (on y) or ``mixture``.

    ``conditional`` sees what is observed and, with ``chained``, the latent before. A Normal latent
    of the model is proposed as a point. With ``factor`` the guide's density has a factor.
    """

    kind: str = "prior"
    chained: bool = False
    share: float = 0.5
    factor: bool = False


@dataclass(frozen=True)
class Program:
    """A model, its guide and their numbers, which ``seed`` fixes.

    ``parameters`` is "param", "module" or "pyromodule"; ``form`` is what kind of callable the model
    is: "function", "partial" or "bound" (a method).
    """

    sites: tuple[Site, ...]
    plates: tuple[Plate, ...] = ()
    loops: tuple[Loop, ...] = ()
    handlers: tuple[Handler, ...] = ()
    guide: Guide = field(default_factory=Guide)
    parameters: str = "param"
    form: str = "function"
    dtype: str = "float64"
    seed: int = 0

    def plate(self, name: str) -> Plate:
        return next(plate for plate in self.plates if plate.name == name)

    def loop(self, name: str) -> Loop:
        return next(loop for loop in self.loops if loop.name == name)

    def site(self, name: str) -> Site:
        return next(site for site in self.sites if site.name == name)

    @property
    def nesting(self) -> int:
        """How many batch dimensions plates take."""
        used = {name for site in self.sites for name in site.plates}
        return max((-self.plate(name).dim for name in used), default=0)


def is_latent(site: Site) -> bool:
    """Whether a guide proposes the site."""
    return not (site.observed or site.family in ("factor", "deterministic"))


def is_weighed(site: Site) -> bool:
    """Whether the site is part of a log-weight that is not proposed."""
    return not site.hidden and (bool(site.observed) or site.family == "factor")


def guide_sites(program: Program) -> tuple[Site, ...]:
    """The statements of a guide that is no prior."""
    sites: list[Site] = []
    kept = program.guide.kind
    for site in program.sites:
        if not is_latent(site):
            continue
        parents: tuple[str, ...] = ()
        if kept in ("conditional", "mixture"):
            parents = tuple(
                one.name
                for one in program.sites
                if one.observed == "obs" and (one.loop is None or one.loop == site.loop)
            )
        before = sites[-1] if sites else None
        if program.guide.chained and before and not before.do and before.loop in (None, site.loop):
            parents = (*parents, before.name)
        family = "delta" if site.family == "normal" else site.family
        sites.append(replace(site, parents=parents, previous=False, family=family))
    if program.guide.factor and sites:
        first = sites[0]
        parents = () if first.do else (first.name,)
        sites.append(Site("gf", "factor", first.plates, parents=parents, loop=first.loop))
    return tuple(sites)


@dataclass(frozen=True)
class Concrete:
    """A site of one iteration of its loop, under the name that the trace has."""

    name: str
    template: Site
    iteration: int
    parents: tuple[tuple[str, str], ...]
    """Name of the slope and name of the concrete parent."""


def concrete(program: Program, sites: tuple[Site, ...]) -> list[Concrete]:
    """The sites as they run, loops written out."""
    found: list[Concrete] = []
    by_name = {site.name: site for site in (*program.sites, *sites)}

    def one(site: Site, iteration: int) -> Concrete:
        parents = []
        for parent in site.parents:
            loop = by_name[parent].loop
            if loop is None:
                parents.append((parent, parent))
            else:
                last = program.loop(loop).size - 1
                at = iteration if loop == site.loop else last
                parents.append((parent, f"{parent}_{at}"))
        if site.previous and iteration:
            parents.append(("previous", f"{site.name}_{iteration - 1}"))
        name = site.name if site.loop is None else f"{site.name}_{iteration}"
        return Concrete(name, site, iteration, tuple(parents))

    for loop, group in itertools.groupby(sites, key=lambda site: site.loop):
        rows = list(group)
        for iteration in range(1 if loop is None else program.loop(loop).size):
            found += [one(site, iteration) for site in rows]
    return found


def event_shape(site: Site) -> tuple[int, ...]:
    """Of a value of the site."""
    shape = (site.units,) if site.units else ()
    return (*shape, CATEGORIES) if site.family == "onehot" else shape


def parameter_shape(site: Site) -> tuple[int, ...]:
    """Of the site's bias."""
    shape = (site.units,) if site.units else ()
    return (*shape, CATEGORIES) if site.family in ("onehot", "categorical") else shape


def batch_shape(program: Program, site: Site, *, full: bool = False) -> tuple[int, ...]:
    """``(d_n, ..., d_1)`` over all of the program's batch dimensions, one where not in a plate."""
    shape = [1] * program.nesting
    for name in site.plates:
        plate = program.plate(name)
        shape[plate.dim] = plate.full if full and plate.full else plate.size
    return tuple(shape)


@dataclass(frozen=True)
class Numbers:
    """What a program's seed fixes; float64, to be cast.

    Arguments:
        initial: value of every parameter.
        data: of every observed site (an iteration's in the first dimension, if it is in a loop),
            of full size, and of every site that ``do`` sets.
        indices: that each subsampled plate, or loop, has seen.
        tensors: of handlers that vary over a plate, by their number.
    """

    initial: dict[str, Tensor]
    data: dict[str, Tensor]
    indices: dict[str, Tensor]
    tensors: dict[int, Tensor]


def numbers(program: Program) -> Numbers:
    """The parameters' values, the observations and the minibatches."""
    source = torch.Generator().manual_seed(program.seed)
    dtype = getattr(torch, program.dtype)

    def uniform(low: float, high: float, shape: tuple[int, ...]) -> Tensor:
        drawn = torch.rand(shape, generator=source, dtype=torch.float64) * (high - low) + low
        return drawn.to(dtype).double()  # a number that either precision has

    initial: dict[str, Tensor] = {}

    def parameters(owner: str, sites: tuple[Site, ...]) -> None:
        for site in sites:
            initial[f"{owner}_{site.name}_bias"] = uniform(-1, 1, parameter_shape(site))
            slopes = [*site.parents, *(["previous"] if site.previous else [])]
            for parent in slopes:
                initial[f"{owner}_{site.name}_{parent}"] = uniform(-1, 1, ())

    parameters("m", program.sites)
    data = {}
    for site in program.sites:
        if not (site.observed or site.do):
            continue
        loop = () if site.loop is None else (program.loop(site.loop).full or 0,)
        if site.loop is not None and not loop[0]:
            loop = (program.loop(site.loop).size,)
        shape = (*loop, *batch_shape(program, site, full=True), *event_shape(site))
        data[site.name] = _values(site.family, uniform(0, 1, shape))
    indices = {}
    for part in (*program.plates, *program.loops):
        if part.full:
            indices[part.name] = torch.randperm(part.full, generator=source)[: part.size]
    tensors = {}
    for number, handler in enumerate(program.handlers):
        if handler.plate is not None:
            plate = program.plate(handler.plate)
            shape = (plate.size, *(1,) * (-plate.dim - 1))
            drawn = uniform(0.3, 2.5, shape)
            tensors[number] = drawn if handler.kind == "scale" else drawn > 1.2
    if program.guide.kind != "prior":  # last, so that nothing else changes with the guide
        parameters("g", guide_sites(program))
    return Numbers(initial, data, indices, tensors)


def _values(family: str, uniform: Tensor) -> Tensor:
    if family == "bernoulli":
        return (uniform > 0.5).double()
    if family == "categorical":
        return (uniform * CATEGORIES).long()
    if family == "onehot":
        return torch.nn.functional.one_hot(uniform.argmax(-1), CATEGORIES).double()
    if family == "binomial":
        return (uniform * (TRIALS + 1)).floor()
    if family == "poisson":
        return (uniform * 4).floor()
    return uniform * 3 - 1
