"""Links that leave the site, to the names of Python, PyTorch and Pyro.

Their own indices would have to be downloaded by every build, so the places of the few names that
the interface mentions are listed here.
"""

import sys

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.nodes import make_refnode

PYTHON = "https://docs.python.org/3/library"
TORCH = "https://docs.pytorch.org/docs/stable"
PYRO = "https://docs.pyro.ai/en/stable"

PAGES = {
    "torch.Tensor": f"{TORCH}/tensors.html#torch.Tensor",
    "torch.Size": f"{TORCH}/size.html#torch.Size",
    "torch.nn.": f"{TORCH}/nn.html",
    "torch.optim.": f"{TORCH}/optim.html",
    "torch.distributions.": f"{TORCH}/distributions.html",
    "torch.utils.data.": f"{TORCH}/data.html",
    "torch.": f"{TORCH}/torch.html",
    "pyro.infer.reparam.": f"{PYRO}/infer.reparam.html",
    "pyro.infer.": f"{PYRO}/inference_algos.html",
    "pyro.nn.": f"{PYRO}/nn.html",
    "pyro.poutine.": f"{PYRO}/poutine.html",
    "pyro.distributions.": f"{PYRO}/distributions.html",
    "pyro.optim.": f"{PYRO}/optimization.html",
    "matplotlib.figure.": "https://matplotlib.org/stable/api/figure_api.html",
}
"""By the beginning of the name; the first that fits."""


def page_of(target: str) -> str | None:
    """The address at which another project documents a name; None if it is not known.

    Arguments:
        target: a dotted name.
    """
    module = target.partition(".")[0]
    if module in sys.stdlib_module_names and "." in target:
        return f"{PYTHON}/{target.rpartition('.')[0]}.html#{target}"
    return next((page for start, page in PAGES.items() if target.startswith(start)), None)


def missing_reference(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.Element
) -> nodes.Node | None:
    """Links a name that no page has in full: of this package, or of another project."""
    if node.get("refdomain") != "py":
        return None
    return _of_package(app, env, node, content) or _of_project(node["reftarget"], content)


def _of_package(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.Element
) -> nodes.Node | None:
    """The only object of the package with this last name, as docstrings write it."""
    name = node["reftarget"]
    python = env.domains.python_domain
    found = {
        (entry.docname, entry.node_id)
        for full, entry in python.objects.items()
        if full.endswith(f".{name}") and not entry.aliased
    }
    if "." in name or len(found) != 1:
        return None
    ((page, anchor),) = found
    return make_refnode(app.builder, node["refdoc"], page, anchor, content, name)


def _of_project(target: str, content: nodes.Element) -> nodes.Node | None:
    address = page_of(target)
    return address and nodes.reference("", "", content, internal=False, refuri=address)


_untouched: dict[str, list[str]] = {}
"""Docstrings of attributes as they are, by name, while napoleon works on them."""


def remember(
    app: Sphinx, what: str, name: str, thing: object, options: object, lines: list[str]
) -> None:
    """Keeps the docstring of an attribute from napoleon, which takes what precedes a colon for
    its type.
    """
    if what in ("attribute", "data", "property"):
        _untouched[name] = list(lines)


def restore(
    app: Sphinx, what: str, name: str, thing: object, options: object, lines: list[str]
) -> None:
    """Puts it back."""
    if name in _untouched:
        lines[:] = _untouched.pop(name)


def setup(app: Sphinx) -> dict[str, bool]:
    """Registers the resolver."""
    app.connect("missing-reference", missing_reference)
    app.connect("autodoc-process-docstring", remember, priority=400)
    app.connect("autodoc-process-docstring", restore, priority=600)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
