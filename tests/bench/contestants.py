"""Who is timed side by side: our variants, and the same functions of flash-linear-attention.

A contestant makes, of the tensors of a piece of work, a call without arguments; or says why it cannot.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from typing import Any

import torch
from shapes import Work

from deltaproof.kernels import LaunchConfig, decode, gated_delta_rule

Tensors = dict[str, torch.Tensor]
Answer = tuple[torch.Tensor, torch.Tensor | None]
Call = Callable[[], Answer]

OURS, PEER = "deltaproof", "fla"
NAIVE = {"chunkwise": "naive_chunk_", "token loop": "naive_recurrent_"}
"""The peer's reference implementations, which run on a CPU: how its functions' names begin."""
LARGEST_FOR_TORCH = 2**19
"""Tokens times heads above which the plain torch path is not timed on a GPU: it is there for checking."""


class Unable(Exception):
    """A contestant does not do this; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """name: `<who>/<mode>`. prepare: a call of the work, from its tensors; raises Unable."""

    name: str
    who: str
    prepare: Callable[[Work, Tensors], Call]


def contestants(work: Work, device: str) -> list[Contestant]:
    """All who may be timed on this device, whether or not they are able to."""
    if work.op == "decode":
        if device == "cpu":
            return [_one(OURS, "decode", _our_decode)]
        peers = [_one(PEER, f"fused_recurrent_{_PEERS[work.rule][1]}", _peer_decode)]
        return [
            _one(OURS, "decode", _our_decode),
            _one(OURS, "decode v_first", partial(_our_decode, v_first=True)),
            *peers,
        ]
    variants = ("staged",) if work.op == "train" else ("split", "packed", "fused")
    if device == "cpu":
        naive = [_one(PEER, f"naive {kind}", partial(_peer_naive, kind)) for kind in NAIVE]
        return [_one(OURS, "torch", partial(_ours, "torch")), *naive]
    found = [_one(OURS, variant, partial(_ours, variant)) for variant in (*variants, "torch")]
    modes: dict[str, dict[str, Any]] = {"": {}}
    if work.rule in ("gdn2", "kda"):
        modes[" safe_gate"] = {"safe_gate": True}
    return found + [
        _one(PEER, f"chunk_{_PEERS[work.rule][1]}{mode}", partial(_peer, options)) for mode, options in modes.items()
    ]


def configured(work: Work, tokens: Iterable[str]) -> list[Contestant]:
    """Ours under these launch configurations."""
    found = []
    for token in tokens:
        config = LaunchConfig.parse(token)
        variant = "staged" if work.op == "train" else config.variant
        found.append(_one(OURS, f"{variant} {token}", partial(_ours, variant, config=config)))
    return found


def peers(work: Work) -> list[Contestant]:
    """The peer's modes on a GPU."""
    return [contestant for contestant in contestants(work, "cuda") if contestant.who == PEER]


def versions() -> dict[str, str | None]:
    """Of what takes part."""
    found: dict[str, str | None] = {}
    for name in ("torch", "triton", "fla-core"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def _one(who: str, mode: str, prepare: Callable[[Work, Tensors], Call]) -> Contestant:
    return Contestant(name=f"{who}/{mode}", who=who, prepare=prepare)


def _ours(variant: str, work: Work, made: Tensors, config: LaunchConfig | None = None) -> Call:
    if variant == "torch" and made["q"].is_cuda and work.shape.rows > LARGEST_FOR_TORCH:
        raise Unable(f"above {LARGEST_FOR_TORCH} tokens times heads")
    given = {name: made[name] for name in ("q", "k", "v", "g", "b", "w") if name in made}
    options = {"variant": variant, "config": config, "use_qk_l2norm_in_kernel": True, "check_values": False}
    call = partial(gated_delta_rule, **options)
    return _forward_or_train(work, call, given, made["do"])


_PEERS = {"gdn2": ("gdn2", "gdn2"), "kda": ("kda", "kda"), "gdn": ("gated_delta_rule", "gated_delta_rule")}
"""Rule -> module of fla.ops, and the end of its functions' names."""


def _peer_function(rule: str, prefix: str, submodule: str = "") -> Callable[..., Any]:
    if rule not in _PEERS:
        raise Unable(f"no function for {rule}")
    module, suffix = _PEERS[rule]
    try:
        return getattr(importlib.import_module(f"fla.ops.{module}{submodule}"), prefix + suffix)
    except (ImportError, AttributeError) as error:
        raise Unable(f"flash-linear-attention does not import: {error}") from None


def _renamed(work: Work, made: Tensors) -> Tensors:
    named = {"b": "b" if work.rule == "gdn2" else "beta"}
    return {named.get(name, name): made[name] for name in ("q", "k", "v", "g", "b", "w") if name in made}


def _peer(options: dict[str, Any], work: Work, made: Tensors) -> Call:
    function = _peer_function(work.rule, "chunk_")
    call = partial(function, use_qk_l2norm_in_kernel=True, **options)
    return _forward_or_train(work, call, _renamed(work, made), made["do"])


def _peer_naive(kind: str, work: Work, made: Tensors) -> Call:
    function = _peer_function(work.rule, NAIVE[kind], ".naive")

    def normalised(q: torch.Tensor, k: torch.Tensor, **others: torch.Tensor) -> Any:
        q, k = (torch.nn.functional.normalize(x.float(), dim=-1).to(x.dtype) for x in (q, k))
        return function(q=q, k=k, **others)

    return _forward_or_train(work, normalised, _renamed(work, made), made["do"])


def _forward_or_train(work: Work, function: Callable[..., Any], given: Tensors, do: torch.Tensor) -> Call:
    if work.op == "forward":

        def forward() -> Answer:
            with torch.no_grad():
                o, *_ = function(**given)
            return o, None

        return forward
    leaves = {name: x.detach().requires_grad_() for name, x in given.items()}

    def train() -> Answer:
        o, *_ = function(**leaves)
        torch.autograd.grad(o, list(leaves.values()), do)
        return o.detach(), None

    return train


def _our_decode(work: Work, made: Tensors, v_first: bool = False) -> Call:
    given: dict[str, Any] = {name: made[name] for name in ("q", "k", "v", "g", "b", "w") if name in made}
    states = (made["h0"].transpose(2, 3) if v_first else made["h0"]).contiguous().clone()

    def once() -> Answer:
        o = decode(
            **given,
            states=states,
            state_v_first=v_first,
            use_qk_l2norm_in_kernel=True,
            check_values=False,
        )
        return o, states

    return once


def _peer_decode(work: Work, made: Tensors) -> Call:
    function = _peer_function(work.rule, "fused_recurrent_")
    named = _renamed(work, made)

    def once() -> Answer:
        with torch.no_grad():
            return function(**named, initial_state=made["h0"], output_final_state=True, use_qk_l2norm_in_kernel=True)[
                :2
            ]

    return once
