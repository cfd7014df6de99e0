"""The definition of an operator."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .site import Site

if TYPE_CHECKING:
    from ...cases.replay import Replay


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """A kind of fault.

    edits: for a node, its replacements, in a fixed order; none for most nodes.
    likely: whether a test is of the kind that shows such a fault; these are asked first.
    """

    name: str
    about: str
    edits: Callable[[Site], Iterator[ast.AST]] = field(repr=False)
    likely: Callable[[Replay], bool] = field(default=lambda test: False, repr=False)
