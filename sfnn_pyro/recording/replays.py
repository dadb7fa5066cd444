"""How a graph is run: compiled by Inductor, or operation by operation where nothing compiles."""

import inspect
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from sfnn_pyro.distributions import native

Replay = Callable[[Sequence[Tensor]], Sequence[Tensor]]

_warned: set[str] = set()


def make_replay(graph: torch.fx.GraphModule, inputs: Sequence[Tensor], *, compile: bool) -> Replay:
    """What runs a graph.

    Arguments:
        graph: without parameters of its own.
        inputs: tensors like those that it will be given.
        compile: whether to compile it, for which PyTorch's Inductor needs a C++ compiler, and
            Triton for tensors on a GPU. Where there is none the graph is run operation by
            operation, and a warning says so once.

    Returns:
        A function from inputs to results, which belong to the caller.
    """
    kind = next((one.device.type for one in inputs), "cpu")
    if compile:
        missing = missing_compiler(kind)
        if not missing:
            return _compiled(graph, inputs, kind)
        _warn_once(missing)
    return _plain(graph)


def missing_compiler(kind: str) -> str:
    """What is missing to compile for a kind of device, in words; empty if nothing is."""
    if kind == "cpu":
        from torch._inductor import exc
        from torch._inductor.cpp_builder import get_cpp_compiler

        try:
            get_cpp_compiler()
        except (exc.InvalidCxxCompiler, RuntimeError):
            return "no C++ compiler was found (g++ or clang)"
        return ""
    from torch.utils._triton import has_triton

    return "" if has_triton() else "Triton is not installed"


def _plain(graph: torch.fx.GraphModule) -> Replay:
    def run(inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        with torch.no_grad(), torch._C._DisableAutocast():
            return graph(*inputs)

    return run


def _compiled(graph: torch.fx.GraphModule, inputs: Sequence[Tensor], kind: str) -> Replay:
    # Random numbers from PyTorch's own generator, in the order of the program.
    # Shapes are part of the key of a recording, and looked at before.
    options: dict[str, Any] = {"fallback_random": True, "size_asserts": False}
    if kind == "cuda":
        options["triton.cudagraphs"] = True
    examples: list[Any] = [one.detach() for one in inputs]
    try:
        with torch.no_grad(), torch._C._DisableAutocast(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch's, about itself
            if kind == "cpu":
                native.load()
            call = _inductor_call(graph, examples, options)
    except Exception as error:  # whatever an operation or a compiler does not take
        text = str(error).strip().splitlines() or [""]
        _warn_once(f"the compilation failed ({type(error).__name__}: {text[0]})")
        return _plain(graph)

    def run(inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        with torch.no_grad(), torch._C._DisableAutocast():
            results = call(*inputs)
        # The next replay of a CUDA graph overwrites what this one returned.
        return results if kind == "cpu" else [one.clone() for one in results]

    return run


def _inductor_call(
    graph: torch.fx.GraphModule, examples: list[Any], options: dict[str, Any]
) -> Callable[..., Any]:
    from torch import _inductor

    alone: Any = getattr(_inductor, "standalone_compile", None)
    if alone is not None and "dynamic_shapes" in inspect.signature(alone).parameters:
        # It uses PyTorch's cache between processes, which ``compile`` does not.
        return alone(
            graph,
            examples,
            dynamic_shapes="from_example_inputs",
            options={"config_patches": options},
        )
    return _inductor.compile(graph, examples, options=options)


def _warn_once(reason: str) -> None:
    if reason in _warned:
        return
    _warned.add(reason)
    warnings.warn(
        f"{reason}: recorded steps are replayed as they are, without fusing their operations",
        UserWarning,
        stacklevel=5,
    )
