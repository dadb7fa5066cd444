"""The base of everything that is an estimator around another."""

from collections.abc import Callable
from typing import Any, ClassVar

from pyro.infer import ELBO
from torch import Tensor

from sfnn_pyro.estimators.base import Coefficients, Estimator
from sfnn_pyro.particles import Particles


class WrappedEstimator(Estimator):
    """An estimator around another: it forwards everything that it does not change.

    A subclass declares in ``wraps`` what it needs of the estimator inside, and overrides what it
    changes: the step as a whole (``differentiable_loss``, ``add_gradients``) or its parts.

    Arguments:
        estimator: the estimator inside; a wrapper may be inside another where the outer one's
            ``wraps`` allows it.

    Raises:
        ValueError: the estimator inside is not one that this wrapper can wrap; the message says
            why, and what to do instead.

    Example:
        >>> from sfnn_pyro.estimators import G1, Lazy
        >>> lazy = Lazy(G1(num_particles=20))
        >>> lazy.proposals, lazy.state_dict()
        (('prior',), {'averages': {}})
    """

    wraps: ClassVar[dict[str, str]] = {}
    """What the estimator inside has to declare, and what to say of one that does not."""

    def __init__(self, estimator: Estimator) -> None:
        outer, inner = type(self).__name__, type(estimator).__name__
        for declared, reason in self.wraps.items():
            # Pyro's own losses declare nothing; that they return a number is all that they do.
            if not getattr(estimator, declared, declared == "returns_number"):
                why = getattr(estimator, "whole_because", "needs all its particles at once")
                raise ValueError(reason.format(outer=outer, inner=inner, why=why))
        if not isinstance(estimator, Estimator):
            raise ValueError(f"{outer} wraps an estimator of sfnn_pyro and got a {inner}")
        ELBO.__init__(self, num_particles=estimator.num_particles)
        self.estimator = estimator
        self.target, self.unbiased = estimator.target, estimator.unbiased
        self.proposals, self.sites = estimator.proposals, estimator.sites
        self.min_particles, self.pathwise = estimator.min_particles, estimator.pathwise
        self.why_not = estimator.why_not
        self.vectorize_particles = estimator.vectorize_particles
        self.retain_graph = estimator.retain_graph

    def state_dict(self) -> dict[str, Any]:
        return self.estimator.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.estimator.load_state_dict(state)

    def see_rows(self, rows: Tensor) -> None:
        self.estimator.see_rows(rows)

    def coefficients(self, log_weight: Tensor) -> Coefficients:
        return self.estimator.coefficients(log_weight)

    def strategy(self, site: Any) -> Any:
        return self.estimator.strategy(site)

    def surrogate(self, particles: Particles, log_weight: Tensor) -> Tensor:
        return self.estimator.surrogate(particles, log_weight)

    def surrogate_from(self, particles: Particles, c: Coefficients) -> Tensor:
        return self.estimator.surrogate_from(particles, c)

    def loss(self, model: Callable, guide: Callable, *args: Any, **kwargs: Any) -> float:
        return self.estimator.loss(model, guide, *args, **kwargs)

    def differentiable_loss(
        self, model: Callable, guide: Callable, *args: Any, **kwargs: Any
    ) -> Tensor:
        return self.estimator.differentiable_loss(model, guide, *args, **kwargs)

    def draw(
        self,
        model: Callable,
        guide: Callable,
        args: tuple,
        kwargs: dict,
        num_particles: int | None = None,
    ) -> Particles:
        return self.estimator.draw(model, guide, args, kwargs, num_particles)

    def _get_trace(self, model: Callable, guide: Callable, args: tuple, kwargs: dict) -> Any:
        return self.estimator._get_trace(model, guide, args, kwargs)


DIVISIBLE = {
    "divisible": "{inner} {why}; use it without {outer}, or G3, G4, G5 or VIMCO with it",
}
"""For a wrapper that adds up the gradients of parts of the particles."""

RETURNS_NUMBER = {
    "returns_number": (
        "{inner} changes what svi.step returns and nothing else: put it outermost, "
        "{inner}({outer}(...))"
    ),
}
"""For every wrapper: one that changes the returned loss has to be the outermost."""
