"""The operators: each is one kind of fault that people make in kernels, by name."""

from __future__ import annotations

from . import algebra, decay, flow, memory, precision, programs
from .base import Operator

OPERATORS: dict[str, Operator] = {
    operator.name: operator
    for module in (memory, algebra, decay, flow, precision, programs)
    for operator in module.OPERATORS
}
"""In the order in which a draw goes round them."""
