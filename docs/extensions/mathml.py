"""Formulas as MathML, which browsers draw themselves: pages need no script from elsewhere."""

import re

from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.util.docutils import SphinxTranslator

_SPACE = '<mspace width="0.17em"/>'
# Browsers leave no space between a function and its argument, nor before it: "a cos x".
_BARE = re.compile(
    r"(?<=<mo>&ApplyFunction;</mo>)(?!\s*<mo)"
    r"|(?:(?<=</m[in]>)|(?<=</msu[bp]>))(?=\s*<mi>[a-z]{3}</mi>)"
)


def _mathml(formula: str, as_block: bool) -> str:
    return _BARE.sub(_SPACE, tex2mathml(formula, as_block=as_block))


def _visit_inline(translator: SphinxTranslator, node) -> None:
    translator.body.append(_mathml(node.astext(), as_block=False))
    raise _done()


def _visit_block(translator: SphinxTranslator, node) -> None:
    translator.body.append(f'<div class="math">{_mathml(node.astext(), as_block=True)}</div>')
    raise _done()


def _done() -> Exception:
    from docutils.nodes import SkipNode

    return SkipNode()


def setup(app):
    """Registers the renderer for `html_math_renderer`."""
    app.add_html_math_renderer("mathml", (_visit_inline, None), (_visit_block, None))
    return {"parallel_read_safe": True}
