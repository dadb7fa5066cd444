"""The particles of one minibatch split over processes."""

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from pyro import poutine
from torch import Tensor

from sfnn_pyro.distributed.process_group import ProcessGroup
from sfnn_pyro.estimators.base import Estimator, with_gradient_of
from sfnn_pyro.estimators.checks import check_finite, watched_parameters
from sfnn_pyro.estimators.wrappers.base import DIVISIBLE, RETURNS_NUMBER, WrappedEstimator
from sfnn_pyro.estimators.wrappers.chunked import leaves_of, part_of
from sfnn_pyro.particles import MixtureOf, Particles
from sfnn_pyro.particles.weights import log_mean_exp


class ParticleParallel(WrappedEstimator):
    r"""An estimator whose M particles are drawn on N ranks, M/N on each.

    .. math::
        \hat C_M = \log \frac1M \sum_{r=1}^N \sum_{m=1}^{M/N} w_{rm}

    Every rank sees the same minibatch. The log-weights ``(M, B)`` go to all of them, so that each
    weights its own particles as one process would that had drawn them all, and adds its part of
    the gradient. Loss and gradient are those of the estimator with M particles, up to rounding.

    Only this one message is ours: in ``SVI`` the gradients are added up here; as a module,
    ``ParticleParallel(...)(model, guide)`` inside ``DistributedDataParallel``, whose *mean* over
    the ranks is the gradient. Prefer data parallelism while M particles of a minibatch fit on one
    device: it does not wait in the middle of a step. On one device use ``Chunked``.

    Arguments:
        estimator: one whose surrogate is a weighted sum over particles: ``G2`` to ``G5``,
            ``VIMCO``, ``RLOO``, ``OVIS``, ``GumbelStraightThrough``; its ``num_particles`` is M.
        group: the processes; those of PyTorch's default process group unless given.

    Raises:
        ValueError: the estimator's surrogate is of another form; M is no multiple of N; a
            mixture's shares are not either; or, on the first call, the ranks saw different
            datapoints or drew the same particles.

    Example:
        >>> import torch
        >>> from sfnn_pyro.estimators import G5
        >>> from sfnn_pyro.guides import PriorProposal
        >>> from sfnn_pyro.models import SFNN
        >>> model = SFNN([4, 3, 2])
        >>> module = ParticleParallel(G5(num_particles=20))(model, PriorProposal(model))
        >>> module(torch.zeros(5, 4), torch.ones(5, 2)).backward()
    """

    wraps: ClassVar[dict[str, str]] = {**DIVISIBLE, **RETURNS_NUMBER}
    divisible = False
    whole_because = "divides its particles over processes"
    replayable = False

    def __init__(self, estimator: Estimator, group: ProcessGroup | None = None) -> None:
        super().__init__(estimator)
        self.group = ProcessGroup.current() if group is None else group
        self.share = _divided("num_particles", estimator.num_particles, self.group)
        self._compared = False

    @torch.no_grad()
    def loss(self, model: Callable, guide: Callable, *args: Any, **kwargs: Any) -> float:
        """The loss in nats, without gradients; the same on every rank."""
        _, loss = self._run(model, guide, args, kwargs)
        return loss.item()

    def differentiable_loss(
        self, model: Callable, guide: Callable, *args: Any, **kwargs: Any
    ) -> Tensor:
        """The loss as a scalar tensor, whose gradients' *mean* over the ranks is the estimate."""
        surrogate, loss = self._run(model, guide, args, kwargs)
        surrogate = self.group.size * surrogate
        return with_gradient_of(loss, -surrogate)

    def add_gradients(self, model: Callable, guide: Callable, *args: Any, **kwargs: Any) -> Tensor:
        """Adds the whole estimate to the parameters' gradients; the loss stays on its device."""
        with (
            watched_parameters(model, guide, args, kwargs),
            poutine.trace(param_only=True) as tracer,
        ):
            surrogate, loss = self._run(model, guide, args, kwargs)
        leaves = leaves_of(tracer.trace)
        grads = torch.autograd.grad(-surrogate, leaves, allow_unused=True, materialize_grads=True)
        self.group.all_reduce(grads)
        for leaf, grad in zip(leaves, grads, strict=True):
            leaf.grad = grad if leaf.grad is None else leaf.grad + grad
        return loss

    def _run(
        self, model: Callable, guide: Callable, args: tuple, kwargs: dict
    ) -> tuple[Tensor, Tensor]:
        """The surrogate of the particles drawn here, and the whole loss."""
        if not self._compared:
            self._check_mixture(model, guide)
        particles = self.estimator.draw(model, guide, args, kwargs, num_particles=self.share)
        own = particles.log_weight().detach()  # (M/N, *batch)
        if not self._compared:
            self._compare(args, particles, own)
        log_weight = self.group.all_gather(own)  # (M, *batch)
        loss = -(log_mean_exp(log_weight) * particles.scale).sum()
        if not torch.isfinite(loss):
            check_finite(args)
        first = self.group.rank * self.share
        c = part_of(self.estimator.coefficients(log_weight), first, first + self.share)
        return self.estimator.surrogate_from(particles, c), loss

    def _check_mixture(self, model: Callable, guide: Callable) -> None:
        if isinstance(guide, MixtureOf):
            whole = guide.counts(self.num_particles)
            each = guide.counts(self.share) if self.share > 1 else ()
            if [self.group.size * count for count in each] != list(whole):
                raise ValueError(
                    f"a mixture's shares of {whole} particles cannot be divided over "
                    f"{self.group.size} ranks: choose a share of the mixture that is a whole "
                    f"number of the {self.share} particles on each"
                )

    def _compare(self, args: tuple, particles: Particles, own: Tensor) -> None:
        """Once: the ranks must agree on the datapoints and differ in their particles."""
        given = [
            (tuple(arg.shape), arg.double().sum().item()) for arg in args if torch.is_tensor(arg)
        ]
        plates = {name: index.tolist() for name, (_, index) in particles.subsamples.items()}
        drawn = own.tolist() if particles.latent else self.group.rank
        seen = self.group.gather_objects((repr((given, plates, tuple(own.shape))), repr(drawn)))
        for rank, (datapoints, _) in enumerate(seen):
            if datapoints != seen[0][0]:
                raise ValueError(
                    f"ranks 0 and {rank} saw different datapoints: give every rank the same "
                    "minibatch, and plates that subsample the same indices (subsample=)"
                )
        if len({weights for _, weights in seen}) < self.group.size:
            raise ValueError(
                "two ranks drew the same particles: give every rank a random stream of its own, "
                "torch.manual_seed(ProcessGroup.current().seed(seed))"
            )
        self._compared = True


def _divided(name: str, count: int, group: ProcessGroup) -> int:
    if count % group.size:
        raise ValueError(
            f"{name}={count} cannot be divided over {group.size} ranks: give a multiple of "
            f"{group.size}"
        )
    return count // group.size
