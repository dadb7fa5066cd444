"""A specification as Pyro callables: model, guide, arguments and the leaves of their gradients."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.nn import PyroModule
from torch import Tensor

from sfnn_pyro.guides import MixtureProposal, PriorProposal
from tests.programs.spec import (
    TRIALS,
    Handler,
    Numbers,
    Program,
    Site,
    batch_shape,
    event_shape,
    guide_sites,
    numbers,
)


@dataclass(frozen=True)
class Built:
    """What a test calls.

    Arguments:
        model, guide: Pyro callables.
        args: of both.
        leaves: parameters by name, as ``numbers`` has them.
    """

    model: Callable[..., Any]
    guide: Callable[..., Any]
    args: tuple[Tensor, ...]
    leaves: dict[str, Tensor]


def build(program: Program) -> Built:
    """The program's callables; Pyro's parameter store is cleared."""
    pyro.clear_param_store()
    given = numbers(program)
    arguments = _Arguments(program, given)
    store = _Parameters(program, given)
    model_run = _Run(program, program.sites, "m", store, arguments)
    model = _callable(model_run, store)
    seen = {
        site.name: model_run.observation(site, None, arguments.by_name(arguments.args))
        for site in program.sites
        if site.observed == "condition" or site.do
    }
    conditioned = {name: value for name, value in seen.items() if program.site(name).observed}
    if conditioned:
        model = poutine.condition(model, data=conditioned)
    set_by_do = {name: value for name, value in seen.items() if program.site(name).do}
    if set_by_do:
        model = poutine.do(model, data=set_by_do)
    hidden = [site.name for site in program.sites if site.hidden]
    if hidden:
        model = poutine.block(model, hide=hidden)
    owner = _Owner(model)
    if program.form == "partial":
        model = partial(model)
    elif program.form == "bound":
        model = owner.model
    again = owner.model if program.form == "bound" else model  # another object, the same method
    guide: Callable[..., Any] = PriorProposal(again)
    if program.guide.kind != "prior":
        own = _callable(_Run(program, guide_sites(program), "g", store, arguments), store)
        guide = own
        if program.guide.kind == "mixture":
            guide = MixtureProposal(PriorProposal(again), own, share=program.guide.share)
    return Built(model, guide, arguments.args, store.leaves)


class _Owner:
    """Something that has a model as its method."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def model(self, *args: Tensor) -> Any:
        return self.function(*args)


class _Arguments:
    """The positional arguments of model and guide, and where each is found among them."""

    def __init__(self, program: Program, given: Numbers) -> None:
        self.names: list[str | int] = []
        args = []
        self.static = {}
        dtype = getattr(torch, program.dtype)
        for name, value in given.data.items():
            cast = value if value.dtype == torch.long else value.to(dtype)
            if program.site(name).observed == "obs":
                self.names.append(name)
                args.append(cast)
            else:
                self.static[name] = cast
        for number, value in given.tensors.items():
            self.names.append(number)
            args.append(value if value.dtype == torch.bool else value.to(dtype))
        self.args = tuple(args)
        self.indices = given.indices

    def by_name(self, args: tuple[Tensor, ...]) -> dict[Any, Any]:
        return {**self.static, **dict(zip(self.names, args, strict=True))}


class _Parameters:
    """Parameters by name, the way that the program asks for."""

    def __init__(self, program: Program, given: Numbers) -> None:
        dtype = getattr(torch, program.dtype)
        initial = {name: value.to(dtype) for name, value in given.initial.items()}
        self.kind = program.parameters
        self.initial = initial
        self.modules: dict[str, torch.nn.Module] = {}
        if self.kind == "param":
            for name, value in initial.items():
                pyro.param(name, value)
            self.leaves = {name: pyro.param(name).unconstrained() for name in initial}
            return
        for owner in ("m", "g"):
            module: torch.nn.Module = torch.nn.Module()
            if self.kind == "pyromodule":
                module = PyroModule(f"net_{owner}")
            for name, value in initial.items():
                if name.startswith(f"{owner}_"):
                    setattr(module, name, torch.nn.Parameter(value.clone()))
            self.modules[owner] = module
        self.leaves = {name: self._leaf(name) for name in initial}

    def _leaf(self, name: str) -> Tensor:
        module = self.modules[name[0]]
        return dict(module.named_parameters(recurse=False))[name]

    def enter(self, owner: str) -> None:
        if self.kind == "module":
            pyro.module(f"net_{owner}", self.modules[owner])

    def get(self, name: str) -> Tensor:
        if self.kind == "param":
            return pyro.param(name, self.initial[name])
        return getattr(self.modules[name[0]], name)


def _callable(run: "_Run", store: _Parameters) -> Callable[..., Any]:
    if store.kind != "pyromodule":
        return run

    class Net(PyroModule):
        def __init__(self) -> None:
            super().__init__(f"whole_{run.owner}")
            self.net = store.modules[run.owner]

        def forward(self, *args: Tensor) -> None:
            run(*args)

    return Net()


@dataclass(frozen=True)
class _Run:
    """One run of the model's or the guide's statements."""

    program: Program
    sites: tuple[Site, ...]
    owner: str
    store: _Parameters
    arguments: _Arguments

    def __call__(self, *args: Tensor) -> None:
        self.store.enter(self.owner)
        given = self.arguments.by_name(args)
        plates = {name: self._plate(name, given) for name in self._plates_used()}
        given |= {("index", name): plate.indices for name, plate in plates.items()}
        values: dict[str, Tensor] = {}
        for name, group in groupby(self.sites, key=lambda site: site.loop):
            rows = list(group)
            if name is None:
                for site in rows:
                    self._statement(site, None, 0, plates, values, given)
                continue
            for position, index in enumerate(self._loop(name)):
                given["index", name] = int(index)
                for site in rows:
                    self._statement(site, int(index), position, plates, values, given)

    def _plates_used(self) -> list[str]:
        used = {name for site in self.sites for name in site.plates}
        return [plate.name for plate in self.program.plates if plate.name in used]

    def _plate(self, name: str, given: dict) -> Any:
        plate = self.program.plate(name)
        if plate.indices == "given":
            index = self.arguments.indices[name]
            return pyro.plate(name, plate.full, subsample=index, dim=plate.dim)
        if plate.indices == "drawn":
            return pyro.plate(name, plate.full, subsample_size=plate.size, dim=plate.dim)
        return pyro.plate(name, self._size(name, given), dim=plate.dim)

    def _size(self, name: str, given: dict) -> int:
        """Of a plate, read off the data where they span it."""
        plate = self.program.plate(name)
        for site in self.program.sites:
            if site.observed == "obs" and name in site.plates and site.loop is None:
                return int(given[site.name].shape[plate.dim - len(event_shape(site))])
        return plate.size

    def _loop(self, name: str) -> Iterator[Any]:
        loop = self.program.loop(name)
        if loop.kind == "markov":
            return pyro.markov(range(loop.size))
        if loop.full:
            return iter(pyro.plate(name, loop.full, subsample_size=loop.size))
        return iter(pyro.plate(name, loop.size))

    def _statement(
        self,
        site: Site,
        index: int | None,
        position: int,
        plates: dict,
        values: dict[str, Tensor],
        given: dict,
    ) -> None:
        name = site.name if index is None else f"{site.name}_{position}"
        handlers = [
            (number, handler)
            for number, handler in enumerate(self.program.handlers)
            if site.name in handler.sites and (self.owner == "m" or handler.in_guide)
        ]
        observation = self.observation(site, index, given)
        with ExitStack() as stack:
            for number, handler in handlers:
                if handler.outside:
                    stack.enter_context(_context(number, handler, given))
            for plate in site.plates:
                stack.enter_context(plates[plate])
            for number, handler in handlers:
                if not handler.outside:
                    stack.enter_context(_context(number, handler, given))
            natural = self._natural(site, position, values, given)
            masks = [pair for pair in handlers if pair[1].kind == "dist_mask"]
            values[name] = self._sample(name, site, natural, observation, masks, given)

    def observation(self, site: Site, index: int | None, given: dict) -> Tensor | None:
        if not (site.observed or site.do):
            return None
        value = given[site.name]
        if index is not None:
            value = value[index]
        for plate_name in site.plates:
            plate = self.program.plate(plate_name)
            if plate.full:
                dim = plate.dim - len(event_shape(site))
                index_of = given.get(("index", plate_name), self.arguments.indices[plate_name])
                value = value.index_select(dim, index_of)
        return value

    def _natural(self, site: Site, position: int, values: dict, given: dict) -> Tensor:
        bias = self.store.get(f"{self.owner}_{site.name}_bias")
        total: Any = 0.0
        parents = [(parent, parent) for parent in site.parents]
        if site.previous and position:
            parents.append(("previous", site.name))
        for slope, parent in parents:
            template = self.program.site(parent)
            weight = self.store.get(f"{self.owner}_{site.name}_{slope}")
            total = total + weight * self._feature(site, template, position, slope, values, given)
        if torch.is_tensor(total):
            total = total.reshape(total.shape + (1,) * bias.dim())
            bias = _ramp(bias) * total + bias
        return bias

    def _feature(
        self, site: Site, parent: Site, position: int, slope: str, values: dict, given: dict
    ) -> Tensor:
        """A number for each element of the site's plates, read off the parent's value."""
        name = parent.name
        if parent.loop is not None:
            last = self.program.loop(parent.loop).size - 1
            at = position if parent.loop == site.loop else last
            name = f"{name}_{at - 1 if slope == 'previous' else at}"
        if name in values:
            value = values[name]
        else:  # what the guide is given
            index = None if parent.loop is None else given["index", parent.loop]
            value = self.observation(parent, index, given)
        value = value.to(getattr(torch, self.program.dtype))
        for _ in event_shape(parent):
            weights = torch.arange(1, value.shape[-1] + 1, dtype=value.dtype)
            value = (value * weights).sum(-1)
        for plate_name in parent.plates:
            if plate_name not in site.plates:
                value = value.sum(self.program.plate(plate_name).dim, keepdim=True)
        return value

    def _sample(
        self,
        name: str,
        site: Site,
        natural: Tensor,
        observation: Tensor | None,
        masks: list,
        given: dict,
    ) -> Tensor:
        if site.family == "factor":
            pyro.factor(name, natural, has_rsample=True if self.owner == "g" else None)
            return natural
        if site.family == "deterministic":
            dims = list(batch_shape(self.program, site))
            for plate in site.plates:
                if not self.program.plate(plate).full:
                    dims[self.program.plate(plate).dim] = self._size(plate, given)
            natural = natural.expand(torch.broadcast_shapes(natural.shape, dims))
            return pyro.deterministic(name, natural)
        fn = _distribution(site, natural)
        for number, handler in masks:
            fn = fn.mask(_value(number, handler, given))
        obs = observation if site.observed == "obs" else None
        infer = {"a_key": 1} if site.infer else {}
        return pyro.sample(name, fn, obs=obs, infer=infer)


def _ramp(bias: Tensor) -> Tensor:
    """Weights of the units (and categories), so that a slope moves no two of them alike."""
    numbers_ = torch.arange(1, bias.numel() + 1, dtype=bias.dtype).reshape(bias.shape)
    return numbers_ / max(bias.numel(), 1)


def _value(number: int, handler: Handler, given: dict) -> Any:
    if handler.plate is not None:
        return given[number]
    value: Any = float(handler.value) if handler.kind == "scale" else bool(handler.value)
    return torch.tensor(value) if handler.tensor or handler.kind == "dist_mask" else value


def _context(number: int, handler: Handler, given: dict) -> AbstractContextManager:
    if handler.kind == "scale":
        return poutine.scale(scale=_value(number, handler, given))
    if handler.kind == "mask":
        return poutine.mask(mask=_value(number, handler, given))
    return nullcontext()


def _distribution(site: Site, natural: Tensor) -> Any:
    fn: Any
    if site.family == "bernoulli":
        by_probs = site.form == "probs"
        fn = dist.Bernoulli(natural.sigmoid()) if by_probs else dist.Bernoulli(logits=natural)
    elif site.family == "categorical":
        by_probs = site.form == "probs"
        fn = dist.Categorical(logits=natural)
        fn = dist.Categorical(natural.softmax(-1)) if by_probs else fn
    elif site.family == "onehot":
        fn = dist.OneHotCategorical(logits=natural)
    elif site.family == "binomial":
        fn = dist.Binomial(TRIALS, logits=natural)
    elif site.family == "normal":
        fn = dist.Normal(natural, 1.0)
    elif site.family == "poisson":
        fn = dist.Poisson(natural.exp())
    elif site.family == "delta":
        fn = dist.Delta(natural)
    else:
        raise ValueError(f"family {site.family!r}")
    return fn.to_event(1) if site.units else fn
