"""Calls that must be refused: each takes a good call's arguments and spoils one of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

Arguments = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class BadCall:
    """what: the bad call, in words. names: the error must name one of these. spoil: the bad arguments, None if not possible."""

    what: str
    names: tuple[str, ...]
    spoil: Callable[[Arguments], Arguments | None]


def _replace(name: str, change: Callable[[Any], Any]) -> Callable[[Arguments], Arguments | None]:
    """Change one argument, if the call has it."""
    return lambda call: None if call.get(name) is None else {**call, name: change(call[name])}


def _when(condition: Callable[[Arguments], bool], spoil: Callable[[Arguments], Arguments | None]) -> Any:
    return lambda call: spoil(call) if condition(call) else None


def _wider(x: torch.Tensor) -> torch.Tensor:
    """One column too many: one too few would leave none of a single one."""
    return torch.cat([x, x[..., :1]], -1)


def _one_more(axis: int) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda x: torch.cat([x, x.narrow(axis, 0, 1)], axis)


def _packed(call: Arguments) -> bool:
    return call["cu_seqlens"] is not None


def _with_boundaries(change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    return _when(_packed, _replace("cu_seqlens", lambda x: change(x.clone())))


def _shift_end(x: torch.Tensor) -> torch.Tensor:
    x[-1] += 1
    return x


def _shift_start(x: torch.Tensor) -> torch.Tensor:
    x[0] += 1
    return x


def _disorder(x: torch.Tensor) -> torch.Tensor:
    return torch.cat([x[:1], x[-1:] + 1, x[-1:]]) if x.numel() == 2 else torch.cat([x[:1], x[-1:] + 1, x[2:]])


def _positive(x: torch.Tensor) -> torch.Tensor:
    x = x.detach().clone()
    x.view(-1)[0] = 1.0
    return x


def _whole_batch(call: Arguments) -> Arguments:
    """cu_seqlens beside two batch rows."""
    tokens = call["q"].shape[1]
    return {**call, "cu_seqlens": torch.tensor([0, tokens])}


BAD_CALLS: tuple[BadCall, ...] = (
    BadCall(what="q is no tensor", names=("q",), spoil=_replace("q", lambda x: x.tolist())),
    BadCall(what="q has three axes", names=("q",), spoil=_replace("q", lambda x: x[0])),
    BadCall(what="q holds integers", names=("q",), spoil=_replace("q", lambda x: x.to(torch.int32))),
    BadCall(what="k has another K than q", names=("q", "k"), spoil=_replace("k", _wider)),
    BadCall(what="k has another dtype than q", names=("q", "k"), spoil=_replace("k", lambda x: x.to(torch.float64))),
    BadCall(what="k has more tokens than q", names=("q", "k"), spoil=_replace("k", _one_more(1))),
    BadCall(what="k has more rows than q", names=("q", "k"), spoil=_replace("k", _one_more(0))),
    BadCall(what="v has more tokens than q", names=("q", "k", "v"), spoil=_replace("v", _one_more(1))),
    BadCall(
        what="v's heads are no multiple of q's",
        names=("v", "q"),
        spoil=_when(lambda call: call["q"].shape[2] > 1, _replace("v", _one_more(2))),
    ),
    BadCall(what="v lies on another device", names=("v", "q"), spoil=_replace("v", lambda x: x.to("meta"))),
    BadCall(what="g has one token too many", names=("g",), spoil=_replace("g", _one_more(1))),
    BadCall(what="g has one head too many", names=("g",), spoil=_when(
        lambda call: call["v"].shape[2] != call["q"].shape[2] + 1, _replace("g", _one_more(2)))),
    BadCall(what="g has two axes", names=("g",), spoil=_replace("g", lambda x: x[0, 0])),
    BadCall(what="g is positive", names=("g",), spoil=_when(
        lambda call: not call["use_gate_in_kernel"] and call["g"] is not None and call["g"].numel() > 0,
        _replace("g", _positive))),
    BadCall(what="b has one token too many", names=("b",), spoil=_replace("b", _one_more(1))),
    BadCall(what="b has another K than k", names=("b",), spoil=_when(
        lambda call: call["b"] is not None and call["b"].ndim == 4, _replace("b", _wider))),
    BadCall(what="b is channel-wise and w is missing", names=("w", "b"), spoil=_when(
        lambda call: call["b"] is not None and call["b"].ndim == 4, lambda call: {**call, "w": None})),
    BadCall(what="w has another V than v", names=("w",), spoil=_when(
        lambda call: call["w"] is not None and call["w"].ndim == 4, _replace("w", _wider))),
    BadCall(what="w has one token too many", names=("w",), spoil=_replace("w", _one_more(1))),
    BadCall(what="initial_state has one sequence too many", names=("initial_state",),
            spoil=_replace("initial_state", _one_more(0))),
    BadCall(what="initial_state has another K", names=("initial_state",),
            spoil=_replace("initial_state", _one_more(2))),
    BadCall(what="initial_state is bf16", names=("initial_state",),
            spoil=_replace("initial_state", lambda x: x.to(torch.bfloat16))),
    BadCall(what="cu_seqlens beside two rows", names=("cu_seqlens",), spoil=_when(
        lambda call: not _packed(call) and call["q"].shape[0] > 1, _whole_batch)),
    BadCall(what="cu_seqlens is a list", names=("cu_seqlens",), spoil=_when(
        _packed, _replace("cu_seqlens", lambda x: x.tolist()))),
    BadCall(what="cu_seqlens holds floats", names=("cu_seqlens",), spoil=_with_boundaries(lambda x: x.float())),
    BadCall(what="cu_seqlens has two axes", names=("cu_seqlens",), spoil=_with_boundaries(lambda x: x[None])),
    BadCall(what="cu_seqlens does not start at 0", names=("cu_seqlens",), spoil=_with_boundaries(_shift_start)),
    BadCall(what="cu_seqlens ends past the tokens", names=("cu_seqlens",), spoil=_with_boundaries(_shift_end)),
    BadCall(what="cu_seqlens decreases", names=("cu_seqlens",), spoil=_with_boundaries(_disorder)),
    BadCall(what="A_log is missing", names=("A_log",), spoil=_when(
        lambda call: call["use_gate_in_kernel"], lambda call: {**call, "A_log": None})),
    BadCall(what="A_log has one head too many", names=("A_log",), spoil=_when(
        lambda call: call["use_gate_in_kernel"], _replace("A_log", _one_more(0)))),
    BadCall(what="use_gate_in_kernel without g", names=("use_gate_in_kernel", "g"), spoil=_when(
        lambda call: call["g"] is None, lambda call: {**call, "use_gate_in_kernel": True})),
    BadCall(what="scale is text", names=("scale",), spoil=lambda call: {**call, "scale": "large"}),
    BadCall(what="config is text", names=("config",), spoil=lambda call: {**call, "config": "fast"}),
)  # fmt: skip
"""Every bad call, over all rules and options; those that cannot spoil the call at hand do not apply."""
