"""torch operators over the field, by name; their arguments are those of the schema, with FieldArrays for tensors.

Index tensors and other integers come as FieldArrays too where they are arithmetic operands, and untouched in
`INDEXING`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ....specs.arithmetic import field
from ....specs.arithmetic.field import FieldArray


def _sum(x: FieldArray, dim: Any = None, keepdim: bool = False) -> FieldArray:
    axes = None if dim is None or dim == [] else tuple(dim) if isinstance(dim, (list, tuple)) else dim
    return x.sum(axes, keepdim)


def _mean(x: FieldArray, dim: Any = None, keepdim: bool = False) -> FieldArray:
    total = _sum(x, dim, keepdim)
    return total / float(x.size / max(total.size, 1))


def _power(x: FieldArray, exponent: Any) -> FieldArray:
    """Whole and half powers, which is as far as the derivative of a root and of its square go."""
    if not isinstance(exponent, (int, float)) or exponent == 0 or abs(exponent) > 4 or exponent * 2 % 1:
        raise NotImplementedError
    if exponent % 1:
        x, exponent = field.rsqrt(x) if exponent < 0 else field.sqrt(x), abs(exponent * 2)
    product = x
    for _ in range(int(abs(exponent)) - 1):
        product = product * x
    return field.inverse(product) if exponent < 0 else product


def _softplus(x: FieldArray, beta: float = 1, threshold: float = 20) -> FieldArray:
    # the threshold only says from where on x itself stands for it
    if beta != 1:
        raise NotImplementedError
    return field.softplus(x)


def _softplus_backward(grad: FieldArray, x: FieldArray, beta: float, threshold: float) -> FieldArray:
    if beta != 1:
        raise NotImplementedError
    return grad * field.sigmoid(x)


def _logit(x: FieldArray, eps: float | None = None) -> FieldArray:
    if eps is not None:
        raise NotImplementedError
    return field.logit(x)


def _scaled_add(z: FieldArray, product: FieldArray, beta: float = 1, alpha: float = 1) -> FieldArray:
    return z * beta + product * alpha


def _solve_triangular(
    a: FieldArray, b: FieldArray, *, upper: bool, left: bool = True, unitriangular: bool = False
) -> FieldArray:
    """X with a X = b (X a = b where not `left`), by substitution; only the named triangle of `a` is read."""
    if not left:
        flipped = _solve_triangular(
            a.swapaxes(-1, -2), b.swapaxes(-1, -2), upper=not upper, unitriangular=unitriangular
        )
        return flipped.swapaxes(-1, -2)
    size = a.shape[-1]
    shape = np.broadcast_shapes(a.shape[:-2], b.shape[:-2]) + b.shape[-2:]
    a, b = a.broadcast_to(shape[:-2] + a.shape[-2:]), b.broadcast_to(shape)
    x = FieldArray(np.zeros(shape, dtype=np.uint32))
    for i in reversed(range(size)) if upper else range(size):
        known = slice(i + 1, size) if upper else slice(0, i)
        row = b[..., i : i + 1, :] - a[..., i : i + 1, known] @ x[..., known, :]
        x.bits[..., i : i + 1, :] = (row if unitriangular else row / a[..., i : i + 1, i : i + 1]).bits
    return x


def _index_add(x: FieldArray, dim: int, index: Any, source: FieldArray, alpha: float = 1) -> FieldArray:
    total, terms = np.moveaxis(x.bits.copy(), dim, 0), np.moveaxis((source * alpha).bits, dim, 0)
    for place, term in zip(index.tolist(), terms, strict=True):
        total[place] = (FieldArray(total[place]) + FieldArray(term)).bits
    return FieldArray(np.moveaxis(total, 0, dim))


FORMULAS: dict[str, Callable[..., FieldArray]] = {
    "add": lambda x, y, alpha=1: x + (y if alpha == 1 else y * alpha),
    "sub": lambda x, y, alpha=1: x - (y if alpha == 1 else y * alpha),
    "rsub": lambda x, y, alpha=1: y - (x if alpha == 1 else x * alpha),
    "mul": lambda x, y: x * y,
    "div": lambda x, y: x / y,
    "neg": lambda x: -x,
    "reciprocal": field.inverse,
    "square": lambda x: x * x,
    "pow": _power,
    "exp": field.exp,
    "exp2": field.exp2,
    "expm1": lambda x: field.exp(x) - 1.0,
    "log": field.log,
    "log1p": lambda x: field.log(x + 1.0),
    "log2": field.log2,
    "rsqrt": field.rsqrt,
    "sqrt": field.sqrt,
    "sigmoid": field.sigmoid,
    "sigmoid_backward": lambda grad, y: grad * y * (1 - y),
    "logit": _logit,
    "logit_backward": lambda grad, x, eps=None: grad / (x * (1 - x)),
    "logaddexp": lambda x, y: y + field.softplus(x - y),
    "softplus": _softplus,
    "softplus_backward": _softplus_backward,
    "sum": _sum,
    "mean": _mean,
    "cumsum": lambda x, dim: x.cumsum(dim),
    "mm": lambda x, y: x @ y,
    "bmm": lambda x, y: x @ y,
    "mv": lambda x, y: x @ y,
    "dot": lambda x, y: (x * y).sum(),
    "addmm": lambda z, x, y, **weights: _scaled_add(z, x @ y, **weights),
    "baddbmm": lambda z, x, y, **weights: _scaled_add(z, x @ y, **weights),
    "addcmul": lambda z, x, y, value=1: z + x * y * value,
    "linalg_solve_triangular": _solve_triangular,
    "index_add": _index_add,
}
"""A formula raises NotImplementedError for arguments it does not cover."""

INDEXING = frozenset(("index_add",))
"""Operators among FORMULAS whose integer tensors are indices."""
