"""What a guide is to a model: its prior, a mixture, a guide for some latents, or any guide.

A guide says that it is more than a program by inheriting from ``PriorOf``, ``MixtureOf`` or
``PartialOf``. Estimators and evaluation ask ``proposal_kind`` and ``components_of``.
"""

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from types import MethodType
from typing import Any, Literal

from pyro import poutine

Program = Callable[..., Any]

ProposalKind = Literal["prior", "guide", "mixture"]
"""``"prior"``: the model proposes for itself; ``"mixture"``: several guides share the particles;
``"guide"``: any other, one for some of the latents included."""


def check_program(name: str, program: Any) -> None:
    """Refuses what cannot be run as a model or a guide.

    Raises:
        ValueError: it is a class, or nothing that can be called.

    Example:
        >>> check_program("guide", "prior")
        Traceback (most recent call last):
            ...
        ValueError: guide is a str: give a function or a module, such as SFNN([4, 3, 2])
    """
    if isinstance(program, type):
        raise ValueError(f"{name} is the class {program.__name__}: make one of it first")
    if not callable(program):
        raise ValueError(
            f"{name} is a {type(program).__name__}: give a function or a module, such as "
            "SFNN([4, 3, 2])"
        )


class PriorOf:
    """A guide that is the prior of a model.

    Arguments:
        model: the model.
    """

    def __init__(self, model: Program) -> None:
        check_program("model", model)
        self.prior_of = model

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        """Runs the model without what it observes."""
        with poutine.block(hide_fn=lambda site: site["type"] == "sample" and site["is_observed"]):
            self.prior_of(*args, **kwargs)


class MixtureOf(ABC):
    """Guides that share the particles, weighted as their mixture."""

    @property
    @abstractmethod
    def components(self) -> Sequence[Program]:
        """The guides, in the order of their particles."""

    @abstractmethod
    def counts(self, num_particles: int) -> Sequence[int]:
        """How many of the particles each guide draws."""


class PartialOf:
    """A guide for some of a model's latents; the model's prior proposes the others.

    Arguments:
        partial_of: the model.
    """

    partial_of: Program


def proposal_kind(guide: Program, model: Program) -> ProposalKind:
    """What a guide is to this model.

    Example:
        >>> from sfnn_pyro.guides import PriorProposal
        >>> def model(): ...
        >>> proposal_kind(PriorProposal(model), model), proposal_kind(print, model)
        ('prior', 'guide')
    """
    if isinstance(guide, PriorOf) and same_program(guide.prior_of, model):
        return "prior"
    return "mixture" if isinstance(guide, MixtureOf) else "guide"


def components_of(guide: Program) -> Sequence[Program]:
    """The guides that draw particles: a mixture's components, or the guide itself."""
    return guide.components if isinstance(guide, MixtureOf) else [guide]


def is_partial(guide: Program, model: Program) -> bool:
    """Whether the model's prior proposes the latents that the guide does not have."""
    return isinstance(guide, PartialOf) and same_program(guide.partial_of, model)


def same_program(a: Program, b: Program) -> bool:
    """Whether two callables are the same program with the same parameters.

    Python makes a new object of a method whenever it is looked up, and ``functools.partial``
    of each call: such are compared by what they hold.

    Example:
        >>> class Net:
        ...     def model(self): ...
        >>> net = Net()
        >>> net.model is net.model, same_program(net.model, net.model)
        (False, True)
        >>> same_program(net.model, Net().model)
        False
    """
    if a is b:
        return True
    if isinstance(a, PriorOf) and isinstance(b, PriorOf) and type(a) is type(b):
        return same_program(a.prior_of, b.prior_of)
    if isinstance(a, MethodType) and isinstance(b, MethodType):
        return a.__func__ is b.__func__ and a.__self__ is b.__self__
    if isinstance(a, functools.partial) and isinstance(b, functools.partial):
        return (
            same_program(a.func, b.func)
            and len(a.args) == len(b.args)
            and all(one is other for one, other in zip(a.args, b.args, strict=True))
            and a.keywords.keys() == b.keywords.keys()
            and all(value is b.keywords[name] for name, value in a.keywords.items())
        )
    return False
