"""A step's loss and gradients as one program, recorded once and replayed."""

import functools
import warnings
from collections.abc import Callable, Sequence
from types import MethodType
from typing import Any, ClassVar

import torch
from pyro.infer.util import torch_backward
from torch import Tensor

from sfnn_pyro.estimators.base import Estimator
from sfnn_pyro.estimators.checks import watched_parameters
from sfnn_pyro.estimators.wrappers.base import RETURNS_NUMBER, WrappedEstimator
from sfnn_pyro.estimators.wrappers.known import KnownGradients
from sfnn_pyro.estimators.wrappers.recorded import RecordedStep, Replayed, record_step
from sfnn_pyro.particles.proposals import PriorOf
from sfnn_pyro.recording.arguments import Arguments
from sfnn_pyro.recording.surroundings import surroundings

MOST = 16
"""Recordings that one wrapper makes."""


class Compiled(WrappedEstimator):
    """An estimator whose step is recorded once and compiled, then replayed.

    Small networks wait for Python, larger ones for passes over memory. Here the first step of a
    model, a guide and arguments of some shapes is traced as a whole, gradients included, and given
    to PyTorch's compiler, Inductor, which fuses what lies between the matrix products; later steps
    run neither the model nor Pyro nor autograd. Gradients are those of the estimator on the same
    random numbers, up to rounding; random numbers are new at every step, and belong to
    ``torch.manual_seed``.

    What a recording would silently freeze is watched: with other arguments, parameters, settings
    or Python numbers that the model reads, the step is recorded anew; where a look at a number
    (every check of this package and of Pyro is one) has another answer than in the recording, the
    step is run as it is, and raises its own error. A step that cannot be repeated is refused.
    ``docs/compiled.md`` has the list, and what a compilation costs.

    On a GPU the compiled step is captured as a CUDA graph too, by Inductor; that has never been
    run.

    Arguments:
        estimator: any estimator of this package but ``Chunked`` and ``ParticleParallel``, which
            run a step in parts.
        compile: whether to compile the recording; False replays its operations as they are,
            which needs no compiler and no waiting, and helps where a step is mostly Python.

    Raises:
        ValueError: the estimator is one that runs in parts; or on a call the step is one that a
            replay would not repeat; the message says why, and what to do.

    Example:
        >>> import torch
        >>> from pyro.infer import SVI
        >>> from pyro.optim import SGD
        >>> from sfnn_pyro.estimators import G3
        >>> from sfnn_pyro.guides import PriorProposal
        >>> from sfnn_pyro.models import SFNN
        >>> model, elbo = SFNN([4, 3, 2]), Compiled(G3(num_particles=20), compile=False)
        >>> svi = SVI(model, PriorProposal(model), SGD({"lr": 0.01}), elbo)
        >>> losses = [svi.step(torch.zeros(5, 4), torch.ones(5, 2)) for _ in range(3)]
        >>> elbo.recordings
        1
    """

    wraps: ClassVar[dict[str, str]] = {
        "replayable": "Compiled cannot record {inner}, which runs a step in parts or learns from "
        "step to step: use it as it is",
        **RETURNS_NUMBER,
    }
    divisible = False
    whole_because = "replays a whole step"
    replayable = False

    def __init__(self, estimator: Estimator, *, compile: bool = True) -> None:
        super().__init__(estimator)
        self.compile = compile
        self._forget()

    def _forget(self) -> None:
        self._steps: dict[tuple, list[RecordedStep]] = {}
        self._failed: dict[str, int] = {}
        self._warned: Any = set()

    def __getstate__(self) -> dict[str, Any]:
        kept = {"_steps", "_failed", "_warned"}  # of this process, and of this object's programs
        return {name: value for name, value in vars(self).items() if name not in kept}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()

    @property
    def recordings(self) -> int:
        """How many steps have been recorded."""
        return sum(map(len, self._steps.values()))

    def differentiable_loss(
        self, model: Callable, guide: Callable, *args: Any, **kwargs: Any
    ) -> Tensor:
        """The loss as a scalar tensor whose gradient is the estimate."""
        step = self._step(model, guide, args, kwargs)
        if step is None:
            return self.estimator.differentiable_loss(model, guide, *args, **kwargs)
        if isinstance(step, Tensor):
            return step
        return KnownGradients.apply(step.loss, step.grads, *step.leaves)

    def add_gradients(self, model: Callable, guide: Callable, *args: Any, **kwargs: Any) -> Tensor:
        with watched_parameters(model, guide, args, kwargs):
            step = self._step(model, guide, args, kwargs)
        if step is None:
            return self.estimator.add_gradients(model, guide, *args, **kwargs)
        if isinstance(step, Tensor):
            torch_backward(step, retain_graph=self.retain_graph)
            return step.detach()
        if all(map(_is_plain_leaf, step.leaves)):
            _accumulate(step.leaves, step.grads)
        else:
            torch_backward(KnownGradients.apply(step.loss, step.grads, *step.leaves))
        return step.loss

    def _step(
        self, model: Callable, guide: Callable, args: tuple, kwargs: dict
    ) -> Replayed | Tensor | None:
        """A replay; the loss of a step that was run to be recorded; or None: run it."""
        if not torch.is_grad_enabled() or torch._C._len_torch_dispatch_stack():
            return None
        arguments = Arguments(args, kwargs)
        state = self.estimator.state_dict()
        shapes = tuple((one.shape, one.dtype, one.device) for one in _tensors(state))
        programs = _identity(model), _identity(guide)
        key = *programs, arguments.key, surroundings(), shapes
        steps = self._steps.get(key, [])
        reason = "the arguments or the settings changed"
        for number, step in enumerate(steps):
            changed = step.why_not()
            if changed is None:
                if number:  # the latest is looked at first
                    steps.insert(0, steps.pop(number))
                break
            reason = changed
        else:
            if self.recordings >= MOST:
                self._warn(
                    f"{MOST} steps have been recorded, and there is always another ({reason}): "
                    "from now on such steps run as they are. Pass what changes as a tensor, or use "
                    "the estimator without Compiled"
                )
                return None
            recorded = record_step(self.estimator, model, guide, arguments, compile=self.compile)
            if isinstance(recorded, Tensor):
                return recorded
            step = recorded
            self._steps.setdefault(key, []).insert(0, step)
        replayed = step.replay(arguments.tensors, state)
        if replayed is None:
            self._note_failure(step.failure)
            return None
        step.parameters.meet()
        return replayed

    def _note_failure(self, where: str) -> None:
        self._failed[where] = self._failed.get(where, 0) + 1
        if self._failed[where] == MOST:
            self._warn(
                f"a step went another way than its recording {MOST} times, and was run as it is: "
                f"it branches on numbers at one of {where}. Use torch.where in the place of the "
                "branch, or the estimator without Compiled"
            )

    def _warn(self, text: str) -> None:
        if text not in self._warned:
            self._warned.add(text)
            warnings.warn(text, UserWarning, stacklevel=4)


def _tensors(state: Any) -> list[Tensor]:
    if isinstance(state, dict):
        return [one for value in state.values() for one in _tensors(value)]
    return [state] if torch.is_tensor(state) else []


def _identity(program: Any) -> Any:
    """What two callables that are the same program have in common; see ``same_program``."""
    if isinstance(program, PriorOf):
        return type(program), _identity(program.prior_of)
    if isinstance(program, MethodType):
        return id(program.__func__), id(program.__self__)
    if isinstance(program, functools.partial):
        keywords = tuple((name, id(value)) for name, value in program.keywords.items())
        return _identity(program.func), tuple(map(id, program.args)), keywords
    return id(program)


def _is_plain_leaf(tensor: Tensor) -> bool:
    """Whether a gradient may be added without autograd: nothing waits for it."""
    hooks = tensor._backward_hooks or tensor._post_accumulate_grad_hooks
    return tensor.is_leaf and not hooks


def _accumulate(leaves: Sequence[Tensor], grads: Sequence[Tensor]) -> None:
    for leaf, grad in zip(leaves, grads, strict=True):
        if leaf.grad is None:
            leaf.grad = grad
        else:
            leaf.grad += grad
