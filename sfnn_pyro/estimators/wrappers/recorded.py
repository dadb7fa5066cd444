"""A recorded step: what was traced, when it may be replayed, and the replay."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyro
import torch
from pyro import poutine
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from sfnn_pyro.estimators.base import Estimator
from sfnn_pyro.recording.arguments import Arguments, shape_of
from sfnn_pyro.recording.parameters import Parameters
from sfnn_pyro.recording.replays import Replay, make_replay
from sfnn_pyro.recording.tracing import SEQUENTIAL, CannotRecord, Traced, difference, trace
from sfnn_pyro.recording.watched import Watched


@dataclass
class RecordedStep:
    """Loss, gradients and new state of an estimator as one graph.

    Arguments:
        call: estimator, model and guide, whose identity is part of the key.
        watched: the Python values that the graph was recorded with.
        parameters: the ``pyro.param`` statements of model and guide.
        others: the graph's inputs after arguments and state: parameters and tensors that model
            and guide hold.
        wanted: numbers of the inputs whose gradients the graph returns, in their order.
        state: the structure of the estimator's state.
        count: how many tensors the state has.
        run: the graph.
        conditions: where in the code the graph's conditions were asked.
    """

    call: tuple[Estimator, Callable, Callable]
    watched: Watched
    parameters: Parameters
    others: Sequence[Tensor]
    wanted: Sequence[int]
    state: Any
    count: int
    run: Replay
    conditions: Sequence[str]

    def __post_init__(self) -> None:
        self.failure = ""
        self._shapes = [shape_of(one) for one in self.others]

    def why_not(self) -> str | None:
        """What a replay would do otherwise than a run, in words; None if nothing."""
        if not self.parameters.are_there():
            return "a parameter was replaced"
        if self.watched.changed() is not None:
            again = watch(*self.call)
            place = self.watched.difference(again)
            if place is not None:
                return f"{place} changed"
            self.watched = again  # other objects of the same contents
        own = {id(leaf) for leaf in self.parameters.leaves}
        for one, shape in zip(self.others, self._shapes, strict=True):
            if id(one) not in own and not self.watched.holds(one):
                return f"{self.watched.tensors[id(one)][2]} was replaced"
            if shape_of(one) != shape:
                return "a parameter has another shape, or other gradients are asked for"
        return None

    def replay(self, tensors: Sequence[Tensor], state: dict[str, Any]) -> "Replayed | None":
        """The results at present parameters, arguments and state; None where it does not hold.

        Then the random state is as it was, and the step has to be run itself: a condition had
        another answer, or the loss is NaN, of which the run says more; ``failure`` says which.
        """
        estimator = self.call[0]
        inputs = [*tensors, *tree_flatten(state)[0], *self.others]
        before = random_state(inputs)
        self.failure = ", ".join(dict.fromkeys(self.conditions))
        try:
            loss, *results = self.run(inputs)
        except RuntimeError as error:  # of an operation that does not take its numbers
            self.failure = f"an operation that fails ({str(error).strip().splitlines()[0]})"
            set_random_state(before)
            return None
        fails = bool(self.conditions) and not results.pop()
        if fails or (loss.device.type == "cpu" and math.isnan(loss)):
            set_random_state(before)
            return None
        new, grads = results[: self.count], results[self.count :]
        if self.count:
            estimator.load_state_dict(tree_unflatten(new, self.state))
        return Replayed(loss, grads, [inputs[number] for number in self.wanted])


@dataclass(frozen=True)
class Replayed:
    """A step's loss, its gradients, and the tensors that they belong to."""

    loss: Tensor
    grads: Sequence[Tensor]
    leaves: Sequence[Tensor]


def record_step(
    estimator: Estimator, model: Callable, guide: Callable, arguments: Arguments, *, compile: bool
) -> "RecordedStep | Tensor":
    """Records a step; or the loss of one that was taken, where it cannot be repeated.

    The first step of a model may make parameters, and G1's its averages: no other does.

    Raises:
        CannotRecord: a replay would not do what a run does; the message says why.
    """
    before, state = random_state(arguments.tensors), estimator.state_dict()
    stored = set(pyro.get_param_store().keys())
    # What happens at a first call only (checks, nesting of plates, caches) happens here.
    with poutine.trace(param_only=True) as tracer:
        loss = estimator.differentiable_loss(model, guide, *arguments.args, **arguments.kwargs)
    parameters = Parameters(tracer.trace)
    made = [
        name
        for name, site in tracer.trace.nodes.items()
        if name not in stored and not isinstance(site["value"].unconstrained(), torch.nn.Parameter)
    ]
    if made or tree_flatten(estimator.state_dict())[1] != tree_flatten(state)[1]:
        return loss
    leaves = _leaves(loss, arguments.tensors)
    del loss, tracer
    set_random_state(before)
    estimator.load_state_dict(state)
    try:
        return _Recorder(estimator, model, guide, arguments, parameters, leaves).record(compile)
    finally:
        estimator.load_state_dict(state)


class _Recorder:
    """Two traces of a step, from different random states, and their comparison."""

    def __init__(
        self,
        estimator: Estimator,
        model: Callable,
        guide: Callable,
        arguments: Arguments,
        parameters: Parameters,
        leaves: Sequence[Tensor],
    ) -> None:
        self.call = estimator, model, guide
        self.parameters = parameters
        # Others than the caller's, which may be the model's own tensors or belong to a graph.
        tensors = [one.detach().requires_grad_(one.requires_grad) for one in arguments.tensors]
        self.args, self.kwargs = arguments.with_tensors(tensors)
        state, self.state = tree_flatten(estimator.state_dict())
        if not all(map(torch.is_tensor, state)):
            raise CannotRecord(
                f"{type(estimator).__name__} keeps a state that is no tensor, which a recording "
                "would freeze: use it without Compiled"
            )
        self.count = len(state)
        self.given: list[Tensor] = [*tensors, *state]
        self.watched = watch(*self.call)
        own = {id(leaf) for leaf in parameters.leaves}
        # A leaf that is found nowhere is made anew in each run; its gradient is not used.
        self.found = [x for x in leaves if id(x) in own or id(x) in self.watched.tensors]
        self.wanted = [one for one in tensors if one.requires_grad] + self.found

    def record(self, compile: bool) -> RecordedStep:
        inputs = [*self.given, *self.found]
        with _forked():
            torch.manual_seed(1)
            first = trace(self._work, inputs)
            inputs += [self._located(one) for one in first.outsiders]
            versions = [one._version for one in inputs]
            torch.manual_seed(2)
            second = trace(self._work, inputs)
            self._check(first, second, inputs, versions)
            after = random_state(inputs)
            torch.manual_seed(2)
            _check_repeats(second, inputs, after)
        numbers = {id(one): number for number, one in enumerate(inputs)}
        return RecordedStep(
            self.call,
            self.watched,
            self.parameters,
            inputs[len(self.given) :],
            [numbers[id(one)] for one in self.used],
            self.state,
            self.count,
            make_replay(second.graph, inputs, compile=compile),
            second.conditions,
        )

    def _work(self) -> list[Tensor]:
        estimator, model, guide = self.call
        state = self.given[len(self.given) - self.count :]
        if self.count:
            estimator.load_state_dict(tree_unflatten(state, self.state))
        with poutine.block(hide_fn=lambda site: site["type"] == "param"):
            loss = estimator.differentiable_loss(model, guide, *self.args, **self.kwargs)
        grads: Sequence[Tensor | None] = [None] * len(self.wanted)
        if loss.requires_grad and self.wanted:
            grads = torch.autograd.grad(loss, self.wanted, allow_unused=True)
        self.used = [x for x, grad in zip(self.wanted, grads, strict=True) if grad is not None]
        new = tree_flatten(estimator.state_dict())[0] if self.count else []
        with torch.no_grad():
            own = _owned([g for g in grads if g is not None], self.used, self.given + self.wanted)
        return [loss.detach(), *new, *own]

    def _located(self, tensor: Tensor) -> Tensor:
        own = any(tensor is leaf for leaf in self.parameters.leaves)
        if own or id(tensor) in self.watched.tensors:
            return tensor
        raise CannotRecord(
            f"the step uses a tensor of shape {tuple(tensor.shape)} and {tensor.dtype} that is "
            "neither an argument nor a parameter, and is held by no attribute, closure or global "
            "of the model and the guide: pass it as an argument or register it as a buffer, "
            f"{SEQUENTIAL}"
        )

    def _check(
        self, first: Traced, second: Traced, inputs: Sequence[Tensor], versions: Sequence[int]
    ) -> None:
        place = self.watched.difference(watch(*self.call))
        if place is not None:
            raise CannotRecord(
                f"{place} changes whenever the model runs, which a replay would not do: pass what "
                f"changes as a tensor among the arguments, {SEQUENTIAL}"
            )
        if [one._version for one in inputs] != versions:
            raise CannotRecord(
                "the step changes one of its arguments, or a tensor that the model holds, in "
                f"place (running averages, a counter), which no replay would do: {SEQUENTIAL[3:]}"
            )
        if second.outsiders:
            self._located(second.outsiders[0])
            raise CannotRecord(f"the step uses other tensors each time: {SEQUENTIAL[3:]}")
        found = difference(first, second, inputs)
        if found is not None:
            raise CannotRecord(
                f"two runs of the step are different programs, {found}: it draws from random or "
                "numpy.random, reads a clock, or branches on what it drew. Draw with pyro.sample, "
                f"pass what changes as a tensor, {SEQUENTIAL}"
            )


def _check_repeats(traced: Traced, inputs: Sequence[Tensor], after: Sequence[Tensor]) -> None:
    """Refuses a graph that does not repeat its own recording, random state included."""
    with torch.no_grad(), torch._C._DisableAutocast():
        again = traced.graph(*inputs)
    same = all(
        torch.allclose(one, other, rtol=1e-6, atol=0, equal_nan=True)
        for one, other in zip(traced.results, again, strict=False)
    )
    state = random_state(inputs)
    if not same or not all(map(torch.equal, state, after)):
        raise CannotRecord(
            "a replay does not repeat the recording: the model draws from a generator of its own, "
            "sets the random state (as the sites with NaN under a mask do), or leaves PyTorch "
            f"for a part of its work: {SEQUENTIAL[3:]}"
        )


def _leaves(loss: Tensor, arguments: Sequence[Tensor]) -> list[Tensor]:
    """The leaves of a loss's graph, that of the arguments left out."""
    if loss.grad_fn is None:
        return []
    edge = {one.grad_fn for one in arguments if one.grad_fn is not None}
    own = {id(one) for one in arguments}
    pending, seen, found = [loss.grad_fn], set(edge), []
    while pending:
        node = pending.pop()
        if node in seen:
            continue
        seen.add(node)
        variable = getattr(node, "variable", None)
        if torch.is_tensor(variable) and id(variable) not in own:
            found.append(variable)
        pending += [after for after, _ in reversed(node.next_functions) if after is not None]
    return found


def _owned(
    grads: Sequence[Tensor], like: Sequence[Tensor], inputs: Sequence[Tensor]
) -> list[Tensor]:
    """Gradients in memory that nothing else has, laid out as their tensors: as autograd leaves."""
    taken = {one.untyped_storage()._cdata for one in inputs}
    own = []
    for grad, tensor in zip(grads, like, strict=True):
        key = grad.untyped_storage()._cdata
        if key in taken or grad.stride() != tensor.stride():
            grad = torch.empty_like(tensor).copy_(grad)
        taken.add(key)
        own.append(grad)
    return own


def watch(estimator: Estimator, model: Callable, guide: Callable) -> Watched:
    """The Python values that a step depends on."""
    watched = Watched()
    path = "the estimator"
    inner: Any = estimator
    while inner is not None:
        given = getattr(inner, "_nesting_given", False)
        names = [
            name
            for name in vars(inner)
            if not name.startswith("_") and name != "estimator"
            if name != "max_plate_nesting" or given
        ]
        watched.attributes(path, inner, names)
        inner = vars(inner).get("estimator")
    watched.add("the model", model)
    watched.add("the guide", guide)
    return watched


@contextmanager
def _forked() -> Iterator[None]:
    with torch.random.fork_rng(range(torch.cuda.device_count())):
        yield


def random_state(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Of the CPU, and of the GPUs if a tensor is on one."""
    states = [torch.get_rng_state()]
    if any(one.is_cuda for one in tensors):
        states += torch.cuda.get_rng_state_all()
    return states


def set_random_state(states: Sequence[Tensor]) -> None:
    """Restores what ``random_state`` returned."""
    torch.set_rng_state(states[0])
    if states[1:]:
        torch.cuda.set_rng_state_all(states[1:])
