"""Judge every launch by itself: are a kernel's results right for its inputs? The first that is not right is the culprit."""

from __future__ import annotations

import inspect
import zlib
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import torch

from ...specs.arithmetic.field import FIELD, FieldArray, outside, same, unpack
from ...specs.arithmetic.numbers import FLOAT64, Numbers
from ...specs.budget import REPLICAS, ratios, spread
from ...specs.rounding.contract import CONTRACTS, PrecisionContract
from ...specs.rounding.noise import Noisy
from ..interpreter.watching import Seen
from .call import LaunchArguments
from .oracles import ORACLES, StageOracle

Status = Literal["right", "wrong", "unjudged"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchVerdict:
    """One launch. stage: the kernel's name without its `_kernel`. key: "module:kernel".

    reason: in words, why it is wrong, or could not be judged. tensor, index: the first wrong element, by argument name. in_sigma:
    judged by a budget, not by equality. unwritten: the first load of an element that nothing has written: the fault of the stage
    that should have, unless all of those are right.
    """

    stage: str
    key: str
    status: Status
    reason: str = ""
    tensor: str | None = None
    index: tuple[int, ...] | None = None
    in_sigma: bool = False
    unwritten: str = ""

    @property
    def oracle(self) -> StageOracle | None:
        return ORACLES.get(self.key)


def judge_launch(seen: Seen, tau: float) -> LaunchVerdict:
    """Raised, out of bounds, wrong for its inputs, or right; by equality in exact arithmetic, else by a budget."""
    key = f"{seen.function.__module__}:{seen.function.__qualname__}"
    unwritten = next((str(fault) for fault in seen.faults if fault.fault == "never written"), "")
    found = partial(LaunchVerdict, stage=seen.name.removesuffix("_kernel"), key=key, unwritten=unwritten)
    if seen.error is not None:
        return found(status="wrong", reason=f"it raises: {seen.error}")
    for fault in seen.faults:
        if fault.fault != "never written":
            return found(status="wrong", reason=str(fault))
    if key not in ORACLES:
        return found(status="unjudged", reason="what it should give is not known here")
    if not seen.before:
        return found(status="unjudged", reason="its tensors hold nothing")
    if not _judgeable(seen):
        return found(status="unjudged", reason="it was given numbers that are not finite")
    wrong = _exact(seen, key) if seen.arithmetic == "exact" else _faithful(seen, key, tau)
    if wrong is None:
        return found(status="right")
    reason, tensor, index = wrong
    return found(status="wrong", reason=reason, tensor=tensor, index=index, in_sigma=seen.arithmetic != "exact")


Wrong = tuple[str, str, tuple[int, ...]]
"""(reason, tensor, index) of a wrong output."""


def _exact(seen: Seen, key: str) -> Wrong | None:
    expected = ORACLES[key].expected(_call(seen, FIELD))
    if wrong := _miscounted(seen, expected):
        return wrong
    for name, truth in _numbers(seen, expected).items():
        got = _payload(seen.after[name])
        got = got[: truth.shape[0]].reshape(truth.shape)
        # Where the inputs were not of the algebra (memory that nothing had written, say) there is no truth.
        wrong = ~(np.asarray(same(truth, got)) | outside(truth))
        if wrong.any():
            return f"{name} differs in {_share(wrong)}", name, _first(wrong)
    return _overwritten(seen, expected)


def _faithful(seen: Seen, key: str, tau: float) -> Wrong | None:
    contract = _contract(seen)
    with np.errstate(all="ignore"):
        expected = ORACLES[key].expected(_call(seen, FLOAT64))
        noisy = Noisy(contract, REPLICAS, np.random.default_rng(zlib.crc32(key.encode())))
        replicas = ORACLES[key].expected(_call(seen, noisy))
    if wrong := _miscounted(seen, expected):
        return wrong
    worst: tuple[float, Wrong] | None = None
    for name, truth in _numbers(seen, expected).items():
        got = seen.after[name].double().numpy()
        got = got[: truth.shape[0]].reshape(truth.shape)
        found = row_ratios(name, got, truth, spread(replicas[name], truth), contract)
        if found.size and (worst is None or found.max() > worst[0]):
            row = tuple(int(i) for i in np.unravel_index(int(found.argmax()), found.shape))
            # The place is the first row out of budget: later rows may only have inherited the error.
            over = np.argwhere(found > tau)
            row = tuple(int(i) for i in over[0]) if len(over) else row
            off = f"{found.max():.3g} sigma off" if np.isfinite(found.max()) else "off by more than any rounding"
            worst = float(found.max()), (f"{name} is {off}", name, row)
    if worst is not None and worst[0] > tau:
        return worst[1]
    return _overwritten(seen, expected)


def _numbers(seen: Seen, expected: dict[str, Any]) -> dict[str, Any]:
    return {name: truth for name, truth in expected.items() if seen.after[name].is_floating_point()}


def _miscounted(seen: Seen, expected: dict[str, Any]) -> Wrong | None:
    """Whether a table of whole numbers differs."""
    for name in expected.keys() - _numbers(seen, expected).keys():
        wrong = seen.after[name].numpy() != expected[name]
        if wrong.any():
            return f"{name} differs in {_share(wrong)}", name, _first(wrong)
    return None


def row_ratios(
    name: str, got: np.ndarray, truth: np.ndarray, sigma: np.ndarray, contract: PrecisionContract
) -> np.ndarray:
    """`budget.ratios` of one tensor whose last axis is a row, unless it holds one number per token and head."""
    lift = (None,) * max(0, 4 - truth.ndim) if truth.ndim == 3 else ()
    found = ratios({name: got[lift]}, {name: truth[lift]}, {name: sigma[lift]}, contract)[name]
    return found[0] if lift else found


def _call(seen: Seen, numbers: Numbers) -> LaunchArguments:
    tensors: dict[str, Any] = {}
    for name, x in seen.before.items():
        if not x.is_floating_point():
            tensors[name] = x.numpy()
        elif seen.arithmetic == "exact":
            tensors[name] = _payload(x)
        else:
            tensors[name] = numbers.array(x.double().numpy())
    return LaunchArguments(tensors=tensors, scalars=seen.scalars, numbers=numbers)


def _payload(x: torch.Tensor) -> FieldArray:
    return unpack(x.view(torch.int32).numpy().view(np.uint32))


def _contract(seen: Seen) -> PrecisionContract:
    """Of the narrowest type among the tensors."""
    types = {x.dtype for x in seen.before.values()}
    return CONTRACTS["bf16" if torch.bfloat16 in types else "fp16" if torch.float16 in types else "fp32"]


def _judgeable(seen: Seen) -> bool:
    """Whether all that the launch was given is finite, decays of -inf aside; floats in fp32 where they are payloads."""
    if seen.arithmetic == "exact":
        return all(x.dtype == torch.float32 for x in seen.before.values() if x.is_floating_point())
    rows = int((seen.before["chunks"][:, 1] > 0).sum()) if "chunks" in seen.before else 0
    for name, x in seen.before.items():
        if not x.is_floating_point() or _is_written(name, seen):
            continue
        x = x[:rows] if name in ("h", "dh") else x  # past the last chunk there is nothing
        if not (torch.isfinite(x) | ((x == -torch.inf) & (name == "g"))).all():
            return False
    return True


def _is_written(name: str, seen: Seen) -> bool:
    return not torch.equal(_bits(seen.before[name]), _bits(seen.after[name]))


def _overwritten(seen: Seen, expected: dict[str, Any]) -> Wrong | None:
    for name in seen.before:
        if name not in expected and _is_written(name, seen):
            changed = (_bits(seen.before[name]) != _bits(seen.after[name])).numpy()
            return f"it overwrites {name}, which is none of its outputs", name, _first(changed)
    return None


def _bits(x: torch.Tensor) -> torch.Tensor:
    return x.view({1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[x.element_size()])


def _share(wrong: np.ndarray) -> str:
    return f"{int(wrong.sum())} of {wrong.size} elements"


def _first(wrong: np.ndarray) -> tuple[int, ...]:
    return tuple(int(i) for i in np.argwhere(wrong)[0])


def functions_of(function: Any) -> frozenset[str]:
    """Names, as "module:function", of a kernel and of every device function that it calls, however deep."""
    found: dict[str, Any] = {}

    def visit(fn: Any) -> None:
        name = f"{fn.__module__}:{fn.__qualname__}"
        if name in found:
            return
        found[name] = fn
        words = fn.__code__.co_names
        named = [fn.__globals__.get(word) for word in words]
        named += [getattr(module, word, None) for module in named if inspect.ismodule(module) for word in words]
        for called in (getattr(x, "fn", None) for x in named):
            if inspect.isfunction(called):
                visit(called)

    visit(function)
    return frozenset(found)
