"""Looking inside operators: ours, and those that a package registers with `torch.library.custom_op`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch._library.custom_ops import OPDEFS


def body(func: Any) -> Callable[..., Any] | None:
    """The Python function behind a custom operator, by the arguments of its schema; None for any other operator.

    torch takes a dispatch mode off while it handles an operator; to watch the operations of a custom operator, the mode must be
    put back on around its body.
    """
    name = func._schema.name
    if name.startswith("deltaproof::"):
        # Here, since kernels must not be imported before it is known whether the interpreter runs them.
        from ...kernels.ops.operator import OPERATORS

        return OPERATORS[name].run_values
    definition = OPDEFS.get(name)
    return None if definition is None else definition._init_fn
