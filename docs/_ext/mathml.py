"""Equations as MathML, which browsers draw themselves: no script, no font of another host."""

import re

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.writers.html5 import HTML5Translator

logger = logging.getLogger(__name__)


def mathml(node: nodes.math | nodes.math_block, *, block: bool) -> str:
    """The equation of a node; one that cannot be converted is a warning, so an error."""
    # MathML stretches what stands around an expression by itself.
    text = re.sub(r"\\[bB]igg?[lr]?(?![A-Za-z])", "", node.astext())
    try:
        return tex2mathml(text, as_block=block)
    except MathError as error:
        logger.warning("this equation cannot be drawn: %s (%s)", text, error, location=node)
        return ""


def visit_inline(translator: HTML5Translator, node: nodes.math) -> None:
    """Draws an equation within a line."""
    translator.body.append(mathml(node, block=False))
    raise nodes.SkipNode


def visit_block(translator: HTML5Translator, node: nodes.math_block) -> None:
    """Draws an equation on lines of its own, which scroll where a screen is narrow."""
    translator.body.append(translator.starttag(node, "div", CLASS="equation"))
    translator.body.append(mathml(node, block=True) + "</div>\n")
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Registers the renderer."""
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    app.config.html_math_renderer = "mathml"
    return {"parallel_read_safe": True, "parallel_write_safe": True}
