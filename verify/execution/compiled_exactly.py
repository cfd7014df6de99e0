"""A kernel's launches as compiled, in exact arithmetic; what host code does between them, too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ...specs.arithmetic.field import FieldArray
from ..interpreter.arithmetic.tensor_formulas import FORMULAS
from ..interpreter.custom_ops import body
from ..interpreter.tensors import MOVING
from ..ptx.architectures import architecture
from ..ptx.exact import elements, exactly, tensor
from ..ptx.verdict import PtxVerdict
from ..verdicts.outcome import KernelRaised, Unsupported
from .compiled import require_clean
from .execute import Tensors


class _Host(TorchDispatchMode):
    """Keeps the names of the operators on floats that the ring does not have."""

    def __init__(self) -> None:
        super().__init__()
        self.refused: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if custom := body(func):
            with self:
                return custom(*args, **kwargs)
        name = func.overloadpacket.__name__
        taken = _tensors((args, kwargs))
        dtypes = {x.dtype for x in taken}
        if not kwargs and dtypes in _WORDS and (plain := name.removesuffix("_")) in _RING:
            with suppress(NotImplementedError):
                made = FORMULAS[plain](*(elements(x) if isinstance(x, torch.Tensor) else x for x in args))
                words = tensor(made, taken[0].dtype)
                return args[0].copy_(words) if name.endswith("_") else words
        out = func(*args, **kwargs)
        floats = {dtype for dtype in (*dtypes, *(x.dtype for x in _tensors(out))) if dtype.is_floating_point}
        made_new = name.removeprefix("new_").startswith(("empty", "zeros"))
        if floats and (name not in MOVING or (len(floats) > 1 and not made_new)):
            self.refused.append(name)
        return out


_RING = ("add", "sub", "rsub", "mul", "neg", "square", "sum", "cumsum")
"""Operators that need no Z_q part, which a number of 16 bits has lost."""
_WORDS = ({torch.float32}, {torch.bfloat16}, {torch.float16})


def _tensors(values: Any) -> list[torch.Tensor]:
    return [x for x in tree_leaves(values) if isinstance(x, torch.Tensor)]


def exact_launched(device: str, call: Callable[[], Tensors]) -> dict[str, FieldArray]:
    """The outputs of a call on tensors of words. Raises KernelRaised, Unsupported for what the ring has no answer for."""
    with exactly(architecture(device)) as verdicts, _Host() as host:
        try:
            outputs = call()
        except KernelRaised:
            _require_known(verdicts, host.refused)
            raise
    _require_known(verdicts, host.refused)
    return {name: elements(x) for name, x in outputs.items()}


def _require_known(verdicts: Sequence[PtxVerdict], refused: Sequence[str]) -> None:
    try:
        require_clean(verdicts)
    except Unsupported as error:
        raise Unsupported(f"in exact arithmetic, {error}") from error
    if refused:
        raise Unsupported(f"exact arithmetic as compiled has no torch.{refused[0]} between launches")
