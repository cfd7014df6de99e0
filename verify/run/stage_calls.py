"""The calls of a `Stage`: drawn by its own function, and refused with a reason where nothing could be judged by them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch.utils._pytree import tree_leaves

from ...results.files.one_line import told
from ..targets.stage import Stage

Inputs = dict[str, Any]


class BrokenStage(Exception):
    """A `draw` or a reference that raises or gives something else than it should: the stage cannot be judged by it."""


def drawn(stage: Stage, seed: int) -> Inputs:
    """The arguments of the call of this seed. Raises BrokenStage."""
    made = from_theirs("draw", lambda: stage.draw(np.random.default_rng(seed)))
    if not isinstance(made, Mapping) or not all(isinstance(name, str) for name in made):
        raise BrokenStage(f"draw returned {made!r:.60}; accepted: a mapping of the names of arguments to values")
    for name, x in made.items():
        if reason := strange(x) if is_tensor(x) else _holds(x):
            raise BrokenStage(f"draw returned {name} {reason}")
    return dict(made)


def from_theirs(whose: str, call: Callable[[], Any]) -> Any:
    """The answer of somebody's function that is no kernel. Raises BrokenStage for any error of it."""
    try:
        return call()
    except (Exception, SystemExit) as error:
        raise BrokenStage(f"{whose} raised {told(error)}") from error


def is_tensor(x: Any) -> bool:
    return isinstance(x, torch.Tensor)


def strange(x: torch.Tensor) -> str | None:
    """The reason why a tensor cannot be judged, to follow its name."""
    if x.device.type != "cpu" or x.layout != torch.strided:
        return f"on {x.device.type} as {x.layout}; accepted: dense tensors on the CPU"
    narrow = x.is_floating_point() and x.element_size() == 1
    return (
        f"of {x.dtype}; accepted: fp64, fp32, bf16, fp16, integers and booleans" if x.is_complex() or narrow else None
    )


def _holds(x: Any) -> str | None:
    if any(map(is_tensor, tree_leaves(x))):
        return f"of type {type(x).__name__} with tensors in it; accepted: each tensor as an argument of its own"
    return None
