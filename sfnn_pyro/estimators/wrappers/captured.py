"""A step's loss and gradients as one CUDA graph."""

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pyro
import torch
from pyro import poutine
from pyro.poutine.runtime import _PYRO_STACK
from pyro.poutine.scale_messenger import ScaleMessenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from sfnn_pyro.estimators.base import Estimator
from sfnn_pyro.estimators.wrappers.base import RETURNS_NUMBER, WrappedEstimator
from sfnn_pyro.estimators.wrappers.chunked import _WithGradients, leaves_of

WARM_UP = 3
"""Steps before a capture, as PyTorch asks for."""


class Captured(WrappedEstimator):
    """An estimator whose work on a GPU is captured once in a CUDA graph, then replayed.

    Small networks on a GPU wait for Python, not for arithmetic; a replay runs none of it: not
    the model, not Pyro, not autograd. The first call with arguments of a shape runs the
    estimator a few times and captures it, later ones copy their arguments into place. Parameters
    may change in place between steps, as every optimizer does. Random numbers are new in every
    replay, from the device's default generator.

    All else is what it was at the capture: what the model does with Python numbers, an
    autocast, validation. An enclosing ``poutine.scale`` of another factor is captured anew.

    Arguments:
        estimator: any estimator of this package that keeps no state, but not ``Chunked``, which
            sets the device's random state as no capture can.

    Raises:
        ValueError: the estimator is ``Chunked``; or on a call whose arguments are not all tensors
            on a CUDA device, of a model that draws its own minibatch, or with an estimator that
            keeps a state (G1).

    Example:
        >>> import torch
        >>> from sfnn_pyro.estimators import G3
        >>> from sfnn_pyro.guides import PriorProposal
        >>> from sfnn_pyro.models import SFNN
        >>> model, elbo = SFNN([4, 3, 2]), Captured(G3(num_particles=20))
        >>> if torch.cuda.is_available():
        ...     x, y = torch.zeros(5, 4, device="cuda"), torch.ones(5, 2, device="cuda")
        ...     elbo.loss_and_grads(model.cuda(), PriorProposal(model), x, y)
    """

    wraps: ClassVar[dict[str, str]] = {
        "replayable": "Captured cannot capture {inner}: use either, and fewer particles",
        **RETURNS_NUMBER,
    }
    divisible = False
    whole_because = "replays a whole step"
    replayable = False

    def __init__(self, estimator: Estimator) -> None:
        super().__init__(estimator)
        self._replays: dict[tuple, _Replay] = {}

    def differentiable_loss(
        self, model: Callable, guide: Callable, *args: Any, **kwargs: Any
    ) -> Tensor:
        """The loss as a scalar tensor; its gradient is that of this replay until the next."""
        if kwargs or not all(torch.is_tensor(arg) and arg.is_cuda for arg in args):
            raise ValueError(
                "Captured takes positional tensors on a CUDA device alone; move the data there, "
                "or use the estimator without it"
            )
        key = _key(model, guide, args)
        replay = self._replays.get(key)
        if replay is None or not replay.meet_parameters():
            replay = self._replays[key] = self._capture(model, guide, args)
        return replay.run(args)

    def _capture(self, model: Callable, guide: Callable, args: tuple) -> "_Replay":
        inputs = [arg.clone() for arg in args]
        with poutine.trace(param_only=True) as tracer, _NoSubsampling():
            self.estimator.differentiable_loss(model, guide, *inputs)
        if self.estimator.state_dict():
            raise ValueError(
                f"{type(self.estimator).__name__} keeps a state in Python, which a CUDA graph "
                "would not update: use it without Captured"
            )
        leaves = leaves_of(tracer.trace)

        def work() -> list[Tensor]:
            loss = self.estimator.differentiable_loss(model, guide, *inputs)
            grads = torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True)
            return [loss.detach(), *grads]

        # A check that looks at a value would have to wait for the device.
        with poutine.block(), pyro.validation_enabled(False):
            replay, (loss, *grads) = record(work)
        calls = [(site["args"], site["kwargs"]) for site in tracer.trace.nodes.values()]
        return _Replay(replay, inputs, loss, grads, leaves, calls, (model, guide))


def record(work: Callable[[], list[Tensor]]) -> tuple[Callable[[], None], list[Tensor]]:
    """Captures work on the current device.

    Arguments:
        work: what to capture; its results stay where they are.

    Returns:
        What replays it, and the results that a replay overwrites.
    """
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UP):
            work()
    torch.cuda.current_stream().wait_stream(side)
    # A half-precision copy of the weights made outside would be replayed for ever.
    torch.clear_autocast_cache()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = work()
    torch.clear_autocast_cache()
    return graph.replay, results


@dataclass
class _Replay:
    """A captured step of one model, guide and shape of arguments."""

    replay: Callable[[], None]
    inputs: Sequence[Tensor]
    loss: Tensor
    grads: Sequence[Tensor]
    leaves: Sequence[Tensor]
    calls: Sequence[tuple[tuple, dict]]
    """Of ``pyro.param``, in the model and the guide."""
    keep: tuple
    """Model and guide, whose identity is part of the key."""

    def meet_parameters(self) -> bool:
        """Shows SVI the parameters, as a run would; whether they are those of the capture."""
        store = pyro.get_param_store()
        with poutine.trace(param_only=True) as tracer:
            for args, kwargs in self.calls:
                if args[0] not in store and not isinstance(args[-1], torch.nn.Parameter):
                    return False  # the model would begin with a new one
                pyro.param(*args, **kwargs)
        found = leaves_of(tracer.trace)
        return len(found) == len(self.leaves) and all(map(operator.is_, found, self.leaves))

    def run(self, args: tuple) -> Tensor:
        for kept, arg in zip(self.inputs, args, strict=True):
            kept.copy_(arg)
        self.replay()
        return _WithGradients.apply(self.loss, self.grads, *self.leaves)


class _NoSubsampling(poutine.messenger.Messenger):
    """Refuses a minibatch that the model draws on the CPU: it would be the same for ever."""

    def _pyro_sample(self, msg: Any) -> None:
        if site_is_subsample(msg) and msg["fn"].subsample_size not in (None, msg["fn"].size):
            raise ValueError(
                f"plate '{msg['name']}' draws a minibatch of its own, which a CUDA graph would "
                "not draw anew: pass the minibatch to the model, and data_size to its plate"
            )


def _key(model: Callable, guide: Callable, args: tuple) -> tuple:
    """All that a capture depends on and a caller may change between steps."""
    scales = tuple(m.scale for m in _PYRO_STACK if isinstance(m, ScaleMessenger))
    shapes = tuple((arg.shape, arg.dtype, arg.device) for arg in args)
    half = torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else None
    return id(model), id(guide), shapes, scales, half
