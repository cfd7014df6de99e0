"""The registry: every implementation of the op that can be verified and tuned."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

from ..results.schema.default import default_config
from ..results.schema.token import chunk_size_of
from ..specs.problem import Problem
from ..specs.rounding.contract import Rounding
from .api import gated_delta_rule
from .arguments.checks import MAX_HEAD_DIM
from .configs.launch_config import STAGES, LaunchConfig, Tile
from .pool_variant import decode_from

Op = Literal["chunk_train", "chunk_fwd", "recurrent"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """Something that can be verified and tuned.

    name: `<op>/<variant>`. differentiable: it has a backward. needs_triton: it runs Triton kernels, in the interpreter or on a
    GPU. run: has the signature of `gated_delta_rule`. accepts: True, or the reason why it does not take a problem. configs: for a
    problem, the configurations that verification draws from, the default first. trusting: keywords under which `run` takes the
    contents of its inputs on trust, as arithmetics whose numbers are no floats need.
    keeping: keywords under which its backward pass finds kept what it would else compute again, where there is such a choice.
    launches: how many of the Triton launches of `run` are the op's, the first ones, where others only judge it; None: all.

    Declarations about rounding and memory: sums_decay_gradient: dg is a difference of sums, and is allowed the digits that it
    loses (`specs.rounding.decay_gradient`). fp32_operand: the format to which its products round fp32 operands, where they are
    not exact.
    exponent: the error of its sums of log-decays, where that is more than the sums themselves cost. discards_unwritten: it loads
    elements that nothing has written and then discards them; since they hold NaN while it is judged, its results show whether it
    does. returns_given_state: its final state may be the very tensor of the initial one. foreign: somebody else's function, which
    promises the rule and no more.
    """

    name: str
    op: Op
    variant: str
    differentiable: bool
    needs_triton: bool
    run: Callable[..., Any]
    trusting: dict[str, Any] = field(default_factory=dict)
    keeping: dict[str, Any] = field(default_factory=dict)
    accepts: Callable[[Problem], bool | str]
    configs: Callable[[Problem], tuple[LaunchConfig, ...]]
    launches: int | None = None
    sums_decay_gradient: bool = False
    fp32_operand: Rounding | None = None
    exponent: Rounding | None = None
    discards_unwritten: bool = False
    returns_given_state: bool = False
    foreign: bool = False

    @property
    def rules(self) -> tuple[str, ...]:
        """The rules that it computes, where it does not compute all of them."""
        return ()


def _any_problem(problem: Problem) -> bool | str:
    if max(problem.K, problem.V) <= MAX_HEAD_DIM:
        return True
    return f"head dimensions above {MAX_HEAD_DIM} (K={problem.K}, V={problem.V})"


def _tiled(chunk_size: int, block: int) -> LaunchConfig:
    return replace(LaunchConfig(chunk_size=chunk_size), **dict.fromkeys(STAGES, Tile(block=block)))


def _chunk_configs(problem: Problem) -> tuple[LaunchConfig, ...]:
    """Every chunk size, with tiles that cut K and V to pieces and tiles that hold them whole; the default first."""
    default = chunk_size_of(default_config("", problem.dtype, problem.K))
    sizes = dict.fromkeys((default, 64, 16, 32, 128))
    return tuple(_tiled(chunk_size, block) for chunk_size in sizes for block in (Tile().block, 16, 128))


def _grouped_configs(problem: Problem) -> tuple[LaunchConfig, ...]:
    """The same in groups of one chunk or two, so that few tokens make several."""
    configs = enumerate(_chunk_configs(problem))
    return tuple(replace(config, variant="packed", group=1 + index % 2) for index, config in configs)


def _default_config(problem: Problem) -> tuple[LaunchConfig, ...]:
    return (LaunchConfig(), LaunchConfig(states=Tile(block=16)))


def _torch_configs(problem: Problem) -> tuple[LaunchConfig, ...]:
    return tuple(LaunchConfig(chunk_size=chunk_size) for chunk_size in (64, 16, 32, 128))


def _kernel(op: Op, variant: str, configs: Callable[[Problem], tuple[LaunchConfig, ...]]) -> Kernel:
    return Kernel(
        name=f"{op}/{variant}",
        op=op,
        variant=variant,
        differentiable=op == "chunk_train",
        needs_triton=variant != "torch",
        run=partial(gated_delta_rule, variant=variant),
        trusting={"check_values": False},
        accepts=_any_problem,
        configs=configs,
    )


KERNELS: dict[str, Kernel] = {
    kernel.name: kernel
    for kernel in (
        replace(_kernel("chunk_train", "staged", _chunk_configs), keeping={"disable_recompute": True}),
        _kernel("chunk_fwd", "split", _chunk_configs),
        _kernel("chunk_fwd", "packed", _chunk_configs),
        replace(_kernel("chunk_fwd", "packed", _grouped_configs), name="chunk_fwd/grouped"),
        _kernel("chunk_fwd", "fused", _chunk_configs),
        _kernel("recurrent", "tokens", _default_config),
        replace(_kernel("recurrent", "pool", _default_config), run=decode_from, launches=1),
        replace(
            _kernel("recurrent", "pool_v_first", _default_config),
            run=partial(decode_from, state_v_first=True),
            launches=1,
        ),
        _kernel("chunk_train", "torch", _torch_configs),
    )
}
"""Every kernel by name."""
