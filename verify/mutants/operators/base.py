"""The definition of an operator."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from .site import Site


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """A kind of fault. edits: for a node, its replacements, in a fixed order; none for most nodes."""

    name: str
    about: str
    edits: Callable[[Site], Iterator[ast.AST]] = field(repr=False)
