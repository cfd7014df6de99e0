"""Formulas, written as GitHub shows them, become MathML when the site is built: showing them takes no script and no network."""

import re

from latex2mathml.converter import convert

_BLOCK = re.compile(r"^```math\n(.*?)^```$", re.M | re.S)
_INLINE = re.compile(r"\$`(.+?)`\$", re.S)
# Browsers take no columns' alignment from MathML, and a font without mathematics puts subscripts on the line.
_STYLE = """<style>
math { font-family: "STIX Two Math", "Latin Modern Math", "Cambria Math", STIX, math; }
math mtd:nth-child(odd) { text-align: right; }
math mtd:nth-child(even) { text-align: left; }
</style>"""
_MARK = "formula-{}-stands-here"
_formulas = []


def on_page_markdown(markdown, **_):
    """Put marks where formulas are, so that nothing of Markdown is made of them."""
    _formulas.clear()

    def keep(display):
        def mark(match):
            formula = convert(" ".join(match[1].split()), display=display)
            # What is wider than the page scrolls by itself.
            _formulas.append(f'<div style="overflow-x: auto">{formula}</div>' if display == "block" else formula)
            return _MARK.format(len(_formulas) - 1)

        return mark

    markdown = _BLOCK.sub(keep("block"), markdown)
    return _INLINE.sub(keep("inline"), markdown)


def on_page_content(html, **_):
    """Put the formulas where the marks are."""
    for number, formula in reversed(list(enumerate(_formulas))):
        html = html.replace(_MARK.format(number), formula)
    return _STYLE + html if _formulas else html
