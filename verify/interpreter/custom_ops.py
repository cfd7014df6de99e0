"""Looking inside operators that a package registers with `torch.library.custom_op`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch._library.custom_ops import OPDEFS


def body(func: Any) -> Callable[..., Any] | None:
    """The Python function behind a custom operator, None for any other operator.

    torch takes a dispatch mode off while it handles an operator; to watch what a custom operator does, the mode must be
    put back on around its body.
    """
    definition = OPDEFS.get(func._schema.name)
    return None if definition is None else definition._init_fn
