"""Self-contained HTML pages that share one style: no scripts, no fonts, nothing to fetch; light and dark, desk and phone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined


def render(template: Path, **context: Any) -> str:
    """The page of a template that extends `page.html.j2`. All values of its context are escaped."""
    folders = (template.parent, Path(__file__).parent)
    environment = Environment(
        loader=FileSystemLoader(folders),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template.name).render(context)
