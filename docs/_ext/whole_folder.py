"""A page that is a folder of its own files is copied whole, and linked as it is."""

import shutil
from pathlib import Path

from docutils import nodes
from sphinx.addnodes import download_reference
from sphinx.application import Sphinx

FOLDER = "draw"


def link(app: Sphinx, doctree: nodes.document) -> None:
    """Links the folder's page, where a download would be one file without its neighbours."""
    for node in list(doctree.findall(download_reference)):
        if node["reftarget"].startswith(f"{FOLDER}/"):
            plain = nodes.reference("", "", *node.children, refuri=node["reftarget"])
            node.replace_self(plain)


def copy(app: Sphinx, error: Exception | None) -> None:
    """Copies the folder beside the pages."""
    if error is None and app.builder.format == "html":
        shutil.copytree(Path(app.srcdir) / FOLDER, Path(app.outdir) / FOLDER, dirs_exist_ok=True)


def setup(app: Sphinx) -> dict[str, bool]:
    """Registers both."""
    app.connect("doctree-read", link)
    app.connect("build-finished", copy)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
