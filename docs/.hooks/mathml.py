"""Formulas of pages, written as GitHub shows them, become MathML when the site is built: no script and no network to show them."""

import re

from latex2mathml.converter import convert

_BLOCK = re.compile(r"^```math\n(.*?)^```$", re.M | re.S)
_INLINE = re.compile(r"\$`(.+?)`\$", re.S)
_MARK = "formula-{}-stands-here"
_formulas = []


def on_page_markdown(markdown, **_):
    """Put marks where formulas are, so that nothing of Markdown is made of them."""
    _formulas.clear()

    def keep(display):
        def mark(match):
            _formulas.append(convert(" ".join(match[1].split()), display=display))
            return _MARK.format(len(_formulas) - 1)

        return mark

    markdown = _BLOCK.sub(keep("block"), markdown)
    return _INLINE.sub(keep("inline"), markdown)


def on_page_content(html, **_):
    """Put the formulas where the marks are."""
    for number, formula in reversed(list(enumerate(_formulas))):
        html = html.replace(_MARK.format(number), formula)
    return html
