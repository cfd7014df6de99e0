"""What an operator is."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from .site import Site


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """A kind of fault. edits: for a node, what may stand there instead, in a fixed order; nothing for most nodes."""

    name: str
    about: str
    edits: Callable[[Site], Iterator[ast.AST]] = field(repr=False)
