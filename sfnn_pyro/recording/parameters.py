"""The ``pyro.param`` statements of a step, which ``SVI`` has to see at every step."""

from collections.abc import Callable

import pyro
import torch
from pyro.poutine import Trace
from pyro.poutine.runtime import am_i_wrapped, effectful
from torch import Tensor


class Parameters:
    """The parameters that a run met, as in a trace of parameters alone.

    Arguments:
        trace: of a run of model and guide under ``poutine.trace(param_only=True)``.

    Example:
        >>> import pyro, torch
        >>> from pyro import poutine
        >>> def program():
        ...     return pyro.param("p", torch.zeros(3))
        >>> met = Parameters(poutine.trace(program, param_only=True).get_trace())
        >>> met.are_there(), [leaf.shape for leaf in met.leaves]
        (True, [torch.Size([3])])
        >>> pyro.clear_param_store()
        >>> met.are_there()
        False
    """

    def __init__(self, trace: Trace) -> None:
        self._local = bool(pyro.settings.get("module_local_params"))
        self._calls: list[tuple[str, Callable, tuple, dict, Tensor]] = []
        for name, site in trace.nodes.items():
            if site["type"] == "param":
                state = effectful(site["fn"], type="param"), site["args"], site["kwargs"]
                self._calls.append((name, *state, site["value"].unconstrained()))

    @property
    def leaves(self) -> list[Tensor]:
        """The unconstrained parameters, each once."""
        return list({id(leaf): leaf for *_, leaf in self._calls}.values())

    def are_there(self) -> bool:
        """Whether a run would meet these tensors."""
        if self._local:  # then they are attributes of their modules, and watched as such
            return True
        stored = pyro.get_param_store()._params
        for name, _, args, _, leaf in self._calls:
            found = stored.get(name)
            own = found is None and len(args) > 1 and args[1] is leaf
            if found is not leaf and not (own and isinstance(leaf, torch.nn.Parameter)):
                return False
        return True

    def meet(self) -> None:
        """Says them to the handlers that are active, as the run did."""
        if am_i_wrapped():
            for name, statement, args, kwargs, _ in self._calls:
                statement(*args, name=name, **kwargs)
