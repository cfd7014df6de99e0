"""Torch code in fp64, with or without the rounding of a narrower format: the error budget of a function that has no contract.

Of every operation, the operands and the result are off by up to the unit roundoff of fp32; the operands of a matrix product by
that of the narrowest input, since tensor cores take them so. As in `specs.budget`, the spread of a dozen runs is sigma.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from ...specs.budget import REPLICAS, row_ratios, spread
from ...specs.rounding.contract import BF16, FP16, FP32, Rounding
from ..interpreter.tensors import MOVING

FORMATS = {torch.bfloat16: BF16, torch.float16: FP16}
_PRODUCTS = frozenset({"mm", "bmm", "addmm", "baddbmm", "addbmm", "addmv", "mv", "dot", "matmul"})

Outputs = dict[str, torch.Tensor]


def ratios(
    function: Callable[..., Outputs], inputs: Mapping[str, Any], outputs: Outputs
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The exact results of a function of torch, and of every row of `outputs` its error over sigma."""
    narrowest = narrowest_of(inputs.values())
    truth = _arrays(_wide(function, inputs, None))
    runs = [_arrays(_wide(function, inputs, narrowest, np.random.default_rng(n))) for n in range(REPLICAS)]
    found = {}
    for name, exact in truth.items():
        with np.errstate(invalid="ignore"):
            sigma = spread(np.stack([run[name] for run in runs]), exact)
            stored = FORMATS.get(outputs[name].dtype, FP32)
            allowed = np.maximum(sigma, stored.amplitude(exact) / np.sqrt(3))
        got = outputs[name].detach().to("cpu", torch.float64).numpy()
        found[name] = row_ratios(got, exact, allowed, by_entry=exact.ndim < 2, largest=stored.largest)
    return truth, found


def narrowest_of(values: Iterable[Any]) -> Rounding:
    """The format with the fewest digits among those of some tensors; fp32 where none is narrower."""
    formats = [FORMATS.get(x.dtype, FP32) for x in values if isinstance(x, torch.Tensor)]
    return max([FP32, *formats], key=lambda rounding: rounding.unit)


def _wide(
    function: Callable[..., Outputs], inputs: Mapping[str, Any], operands: Rounding | None,
    draws: np.random.Generator | None = None,
) -> Outputs:  # fmt: skip
    wide = {name: x.to(torch.float64, copy=True) if _is_float(x) else _copy(x) for name, x in inputs.items()}
    with torch.no_grad(), _Rounded(operands, draws):
        return function(**wide)


class _Rounded(TorchDispatchMode):
    """Computes in fp64 whatever float is asked for. draws: of the noise, None for none."""

    def __init__(self, operands: Rounding | None, draws: np.random.Generator | None) -> None:
        super().__init__()
        self._operands, self._draws = operands, draws

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = {name: _widened(value) for name, value in (kwargs or {}).items()}
        name = func.overloadpacket.__name__
        if self._draws is None or self._operands is None or name in MOVING:
            return func(*args, **kwargs)
        unit = self._operands.unit if name in _PRODUCTS else FP32.unit
        if name.endswith("_"):
            out = func(args[0], *tree_map(lambda x: self._off(x, unit), args[1:]), **kwargs)
            return out.copy_(self._off(out, FP32.unit)) if _is_float(out) else out
        out = func(*tree_map(lambda x: self._off(x, unit), args), **kwargs)
        return tree_map(lambda x: self._off(x, FP32.unit), out)

    def _off(self, x: Any, unit: float) -> Any:
        if not _is_float(x) or self._draws is None:
            return x
        return x * torch.from_numpy(np.asarray(1 + unit * self._draws.uniform(-1, 1, tuple(x.shape))))


def _widened(value: Any) -> Any:
    return torch.float64 if isinstance(value, torch.dtype) and value.is_floating_point else value


def _is_float(x: Any) -> bool:
    return isinstance(x, torch.Tensor) and x.is_floating_point()


def _copy(x: Any) -> Any:
    return x.clone() if isinstance(x, torch.Tensor) else x


def _arrays(outputs: Outputs) -> dict[str, np.ndarray]:
    return {name: x.detach().to(torch.float64).numpy().copy() for name, x in outputs.items()}
