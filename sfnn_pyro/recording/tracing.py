"""A run of PyTorch code as a graph, with all that would make a replay wrong refused or checked.

The run is real: Pyro's handlers, autograd and every look at a number take place. A look whose
answer is yes or no becomes a *condition* of the graph, which returns whether every condition has
the answer that it had in the recording: where not, the caller runs the code itself.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary

from sfnn_pyro.recording.active import recorded_now
from sfnn_pyro.recording.places import place

_aten = torch.ops.aten
_FRESH = {_aten.lift_fresh.default, _aten.lift_fresh_copy.default}
_UNFILLED = ("empty", "new_empty", "empty_like", "empty_strided", "new_empty_strided")
_ESCAPES = {Tensor.tolist, Tensor.numpy, Tensor.__array__, Tensor.__dlpack__}
if hasattr(Tensor, "__cuda_array_interface__"):
    _ESCAPES.add(Tensor.__cuda_array_interface__.__get__)

SEQUENTIAL = "or take the step without Compiled"


class CannotRecord(ValueError):
    """A step that no replay would repeat; the message says why, and what to do instead."""


class _Refusal(Exception):
    """The same within the step, where a ValueError may be caught."""


@dataclass(frozen=True)
class Traced:
    """A traced run.

    Arguments:
        graph: its placeholders are the inputs in their order; it returns the results and, if
            there are conditions, whether all of them hold.
        results: what the run itself returned.
        outsiders: tensors that the run met and that are neither inputs nor its own, in order.
        conditions: where in the code each of them was asked.
    """

    graph: torch.fx.GraphModule
    results: Sequence[Tensor]
    outsiders: Sequence[Tensor]
    conditions: Sequence[str]


def trace(work: Callable[[], Sequence[Tensor]], inputs: Sequence[Tensor]) -> Traced:
    """Runs code and returns its graph.

    Arguments:
        work: what to run.
        inputs: the tensors, by identity, that are to be the graph's arguments.

    Raises:
        CannotRecord: the code reads a number out of a tensor or has a result whose shape
            depends on numbers.

    Example:
        >>> import torch
        >>> x = torch.ones(3)
        >>> traced = trace(lambda: [x.sum() if (x > 0).all() else x.mean()], [x])
        >>> [one.item() for one in traced.graph(torch.tensor([1.0, 2.0, 5.0]))]
        [8.0, True]
        >>> traced.graph(-x)[1].item()  # it would have gone the other way
        False
    """
    # Its import takes longer than that of all else in this package.
    from torch.fx.experimental.proxy_tensor import make_fx

    mode = _Conditions(inputs)
    found: list[Tensor] = []

    def call(*_: Tensor) -> list[Tensor]:
        with recorded_now(), _NoEscape(), mode:
            found[:] = work()
            return [*found, *mode.met()]

    try:
        graph = make_fx(call)(*inputs)
    except _Refusal as refusal:
        raise CannotRecord(str(refusal)) from None
    return Traced(graph, found, mode.outsiders, mode.places)


class _Conditions(TorchDispatchMode):
    """Watches every operation: which tensors it meets, and what it reads out of them."""

    def __init__(self, inputs: Sequence[Tensor]) -> None:
        super().__init__()
        # Whether each tensor that is known depends on constants of the code alone.
        self.constant: Any = WeakTensorKeyDictionary({tensor: False for tensor in inputs})
        self.outsiders: list[Tensor] = []
        self.asked: list[tuple[Tensor, bool]] = []
        self.places: list[str] = []

    def met(self) -> list[Tensor]:
        """Whether every condition has the answer that it had; nothing if there is none."""
        if not self.asked:
            return []
        device = self.asked[0][0].device
        answers = [answer if wanted else ~answer for answer, wanted in self.asked]
        return [torch.stack([answer.to(device) for answer in answers]).all()]

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if any(isinstance(one, torch.Generator) for one in (*args, *kwargs.values())):
            raise _Refusal(
                f"{place()}: numbers are drawn from a generator of their own, whose state a replay "
                f"would not take further: draw with pyro.sample, {SEQUENTIAL}"
            )
        tensors = [one for one in tree_leaves((args, kwargs)) if torch.is_tensor(one)]
        if func not in _FRESH:
            self._note(tensors)
        if func is _aten._local_scalar_dense.default:
            return self._number(args[0])
        if func is _aten.equal.default:
            same = args[0].shape == args[1].shape
            return same and self._ask((args[0] == args[1]).all())
        if func is _aten.allclose.default:
            return self._ask(torch.isclose(*args, **kwargs).all())
        _refuse_unknown_shape(func, args)
        result = func(*args, **kwargs)
        constant = _is_constant(func) and all(self.constant.get(one, True) for one in tensors)
        for one in tree_leaves(result):
            if torch.is_tensor(one):
                self.constant[one] = constant
        return result

    def _note(self, tensors: Sequence[Tensor]) -> None:
        for one in tensors:
            if one not in self.constant:
                self.constant[one] = False
                self.outsiders.append(one)

    def _number(self, tensor: Tensor) -> Any:
        if self.constant[tensor]:
            with _disable_current_modes():
                return tensor.item()
        if tensor.dtype is torch.bool:
            return self._ask(tensor)
        raise _Refusal(
            f"{place()}: the step reads a number out of a tensor there, which a recording would "
            "freeze: compute with the tensor itself (torch.where in the place of a number's "
            f"branch), {SEQUENTIAL}"
        )

    def _ask(self, answer: Tensor) -> bool:
        with _disable_current_modes():
            value = bool(answer.item())
        self.constant[answer] = False
        self.asked.append((answer, value))
        self.places.append(place())
        return value


def _is_constant(func: Any) -> bool:
    """Whether an operation's result depends on its arguments alone."""
    random = torch.Tag.nondeterministic_seeded in func.tags
    return not random and func.overloadpacket.__name__ not in _UNFILLED


def _refuse_unknown_shape(func: Any, args: tuple) -> None:
    masks = False
    if func.overloadpacket is _aten.index:
        masks = any(i is not None and i.dtype in (torch.bool, torch.uint8) for i in args[1])
    elif torch.Tag.data_dependent_output in func.tags:
        raise _Refusal(
            f"{place()}: {func.overloadpacket.__name__} reads a number out of a tensor, which a "
            f"recording would freeze: compute with the tensor itself, {SEQUENTIAL}"
        )
    # An index of whole numbers has the tag too, and a shape that does not depend on them.
    elif torch.Tag.dynamic_output_shape in func.tags:
        masks = func.overloadpacket not in (_aten.index, _aten._unsafe_index)
    if masks:
        name = func.overloadpacket.__name__
        raise _Refusal(
            f"{place()}: the shape that '{name}' returns depends on numbers (a mask as an index, "
            "nonzero, unique), and a recording has one shape: keep every element and weight it "
            f"(torch.where, poutine.mask), {SEQUENTIAL}"
        )


class _NoEscape(TorchFunctionMode):
    """Refuses a tensor that becomes Python numbers or a NumPy array, past every operation."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        if func in _ESCAPES:
            raise _Refusal(
                f"{place()}: a tensor becomes numbers of Python or NumPy there, which a recording "
                f"would freeze: compute with the tensor itself, {SEQUENTIAL}"
            )
        if func is torch.nn.functional.one_hot:
            return _one_hot(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """The same without a look at each number, where the number of classes is given."""
    if num_classes < 1:
        return torch.nn.functional.one_hot(tensor, num_classes)
    return (tensor.unsqueeze(-1) == torch.arange(num_classes, device=tensor.device)).long()


def difference(first: Traced, second: Traced, inputs: Sequence[Tensor]) -> str | None:
    """What two traces of the same code do not have in common, in words; None if nothing.

    Arguments:
        first: one trace.
        second: another, of another random state.
        inputs: tensors that are the same in both, whether as inputs or as outsiders.
    """
    known = {id(tensor): number for number, tensor in enumerate(inputs)}
    a, b = _calls(first, known), _calls(second, known)
    for (name, one), (_, other) in zip(a, b, strict=False):
        if one != other:
            return f"the operation '{name}' has other arguments, a number that changed"
    return None if len(a) == len(b) else "one of them has more operations"


def _calls(traced: Traced, known: dict[int, int]) -> list[tuple[str, Any]]:
    """The operations of a graph with their arguments, in a form that can be compared."""
    tokens: dict[Any, Any] = {}
    calls: list[tuple[str, Any]] = []
    # The placeholders come in the order of the inputs of this trace.
    placeholders = iter(range(len(known)))
    for node in traced.graph.graph.nodes:
        if node.op == "placeholder":
            tokens[node] = "input", next(placeholders)
        elif node.op == "get_attr":
            value = getattr(traced.graph, node.target)
            number = known.get(id(value))
            tokens[node] = ("input", number) if number is not None else ("constant", _bytes(value))
        else:
            tokens[node] = "result", len(calls)
            args = torch.fx.map_arg((node.args, node.kwargs), tokens.__getitem__)
            calls.append((str(node.target), (str(node.target), repr(args))))
    return calls


def _bytes(value: Tensor) -> Any:
    return str(value.dtype), tuple(value.shape), repr(value.tolist())
