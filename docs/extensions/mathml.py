"""Formulas as MathML, which browsers draw themselves: pages need no script from elsewhere."""

from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.util.docutils import SphinxTranslator


def _visit_inline(translator: SphinxTranslator, node) -> None:
    translator.body.append(tex2mathml(node.astext(), as_block=False))
    raise _done()


def _visit_block(translator: SphinxTranslator, node) -> None:
    translator.body.append(f'<div class="math">{tex2mathml(node.astext(), as_block=True)}</div>')
    raise _done()


def _done() -> Exception:
    from docutils.nodes import SkipNode

    return SkipNode()


def setup(app):
    """Registers the renderer for `html_math_renderer`."""
    app.add_html_math_renderer("mathml", (_visit_inline, None), (_visit_block, None))
    return {"parallel_read_safe": True}
