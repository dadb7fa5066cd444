"""The documentation site: Sphinx with furo and MyST-NB; ``make docs`` builds it."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

import sfnn_pyro

project = "sfnn_pyro"
author = "The sfnn_pyro authors"
project_copyright = author
release = version = sfnn_pyro.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "elsewhere",  # links to Pyro's and PyTorch's pages, and to files of the repository
    "mathml",  # equations without scripts from another host
    "whole_folder",  # the page on which a person draws
]
exclude_patterns = ["_build"]
nitpicky = True
nitpick_ignore = [
    ("py:class", "sfnn_pyro.estimators.base.Options"),  # described by Estimator's arguments
    ("py:class", "sfnn_pyro.estimators.rebar.Relaxed"),
    ("py:class", "optional"),  # napoleon's word for an argument with a default
    ("py:class", "tuple[int"),  # a signature that Sphinx cuts at a comma
]
templates_path = ["_templates"]

# Pages. The tutorials are executed, each in under a minute; what did not change is not run again.
myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence", "attrs_inline", "deflist"]
myst_heading_anchors = 3
nb_execution_mode = "cache"
nb_execution_timeout = 600
nb_execution_raise_on_error = True
nb_merge_streams = True

# The interface, from its docstrings.
autosummary_generate = True
autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_default_options = {"members": True, "show-inheritance": True}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False

# Where a host has the network, Pyro's and PyTorch's own indices resolve more names.
if os.environ.get("SFNN_DOCS_INTERSPHINX"):
    extensions.append("sphinx.ext.intersphinx")
    intersphinx_mapping = {
        "python": ("https://docs.python.org/3", None),
        "torch": ("https://docs.pytorch.org/docs/stable", None),
        "pyro": ("https://docs.pyro.ai/en/stable", None),
    }

html_theme = "furo"
html_title = "sfnn_pyro"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_show_sourcelink = False
html_copy_source = False
