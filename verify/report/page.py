"""Self-contained HTML pages that share one style: no scripts, no fonts, nothing to fetch; light and dark, desk and phone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape


def render(template: Path, **context: Any) -> str:
    """The page of a template that extends `page.html.j2`. All values of its context are escaped.

    The filter `at_commas` lets a line of a configuration end after each of its commas.
    """
    folders = (template.parent, Path(__file__).parent)
    environment = Environment(
        loader=FileSystemLoader(folders),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["at_commas"] = lambda token: escape(token).replace(",", Markup(",<wbr>"))
    return environment.get_template(template.name).render(context)
