"""Which configuration a call gets when it names none: the tuned table of its GPU, else a safe default."""

from __future__ import annotations

import logging
import os
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
import triton

from ...results import lookup
from ...results.schema.default import default_config
from ...results.schema.gpus import identify
from ...results.schema.token import chunk_size_of, variant_of
from ...specs.dtypes import TORCH_DTYPES
from ...specs.rule import RULES
from ..arguments.checks import CallShape

if TYPE_CHECKING:
    from ...results import Answer

_DTYPES = {dtype: name for name, dtype in TORCH_DTYPES.items()}
_log = logging.getLogger("deltaproof.dispatch")


def choose_config(
    op: str,
    shape: CallShape,
    q: torch.Tensor,
    *,
    variant: str | None,
    packed: bool,
    states: bool,
    l2norm: bool,
    gate: bool,
    chunk_size: int | None = None,
) -> str:
    """Token of the configuration for a call of `op`. A configuration is served if it was verified and timed, or, untimed (tier
    C), if it ran without a fault as this Triton compiles it.

    variant: the one that the call names, if it does: entries tuned for another say nothing of it. chunk_size: the only one that
    will do, if there is one.

    With DELTAPROOF_LOG=dispatch each choice is explained, once per answer; a miss is explained once in any case.
    """
    # A call that names a variant gets the default of that variant.
    default = default_config(op if variant in (None, "packed", "staged") else "", _DTYPES[q.dtype], shape.K)
    if not can_look_up(q) or (rule := _rule_name(shape.decay, shape.erase, shape.write)) is None:
        return default
    gpu = _gpu(q.device)
    answer = lookup(
        op,
        rule=rule,
        dtype=_DTYPES[q.dtype],
        K=shape.K,
        V=shape.V,
        # The longest packed sequence is known to the device alone; none is longer than all of them.
        tokens=shape.T,
        heads=shape.HV if packed else shape.N * shape.HV,
        gpu=gpu,
        varlen=packed,
        state=states,
        l2norm=l2norm,
        gate_in_kernel=gate,
        triton=triton.__version__,
    )
    if op == "chunk_fwd" and variant not in (None, variant_of(answer.config)):
        _say(f"{op} {rule} on {gpu}: {default} ({variant} was asked for, and {answer.config} is the best)", miss=False)
        return default
    if chunk_size not in (None, chunk_size_of(answer.config)):
        _say(
            f"{op} {rule} on {gpu}: {default} (traced with chunks of {chunk_size}, and {answer.config} is the best)",
            miss=False,
        )
        return default
    config = default if answer.tier == "default" else answer.config
    loss = "" if answer.expected_loss is None else f", expected to cost {answer.expected_loss:.0%}"
    _say(
        f"{op} {rule} on {gpu}: {config} ({_worth(answer)}; {answer.source}: {answer.reason}{loss})",
        miss=answer.tier == "default",
    )
    return config


def _worth(answer: Answer) -> str:
    """Tier and gate."""
    return f"tier {answer.tier}, gate {answer.entry.gate}" if answer.entry else "untuned"


def can_look_up(q: torch.Tensor) -> bool:
    """Whether there are tables for the device of q. A traced call looks up when it runs (`traced`): its sizes may be symbols."""
    return q.is_cuda and not torch.compiler.is_compiling()


@lru_cache(maxsize=64)
def _rule_name(decay: str, erase: str, write: str) -> str | None:
    ties = {(rule.decay, rule.erase, rule.write): name for name, rule in RULES.items()}
    return ties.get((decay, erase, write))


@lru_cache(maxsize=16)
def _gpu(device: torch.device) -> str:
    """The GPU's slug, or the name of its architecture for one that is not known."""
    properties = torch.cuda.get_device_properties(device)
    arch = properties.gcnArchName.partition(":")[0] if torch.version.hip else f"sm_{properties.major}{properties.minor}"
    known = identify(arch, properties.multi_processor_count, properties.total_memory / 2**30, properties.name)
    return arch if known is None else known.slug


@lru_cache(maxsize=1024)
def _say(text: str, *, miss: bool) -> None:
    """Log a choice; the cache makes sure that nobody reads it twice."""
    if miss:
        _log.warning(text)
    elif "dispatch" in os.environ.get("DELTAPROOF_LOG", "").split(","):
        logging.basicConfig()
        _log.setLevel(logging.INFO)
        _log.info(text)
