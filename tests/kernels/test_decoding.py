"""Decoding on a pool of states: the right ones change, and by the right amount, without a look at the device."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deltaproof.kernels import Tile, decode, gated_delta_rule
from deltaproof.specs.rule import RULES
from tests.helpers.pool import HV, SLOTS, K, V, pool, tokens


@settings(max_examples=12, deadline=None)
@given(
    rule=st.sampled_from(list(RULES)),
    slots=st.lists(st.integers(0, SLOTS - 1), min_size=1, max_size=4, unique=True),
    idle=st.sets(st.integers(0, 3)),
    T=st.integers(1, 3),
    v_first=st.booleans(),
    wide=st.booleans(),
)
def test_slots_advance_as_their_sequences_do(rule, slots, idle, T, v_first, wide):
    made, states = tokens(rule, len(slots), T), pool()
    expected, after = gated_delta_rule(**made, initial_state=states[slots], output_final_state=True, variant="torch")
    assert after is not None
    live = [n for n in range(len(slots)) if n not in idle]
    at = torch.tensor([slot if n in live else -1 - slot for n, slot in enumerate(slots)])
    held = (states.transpose(2, 3) if v_first else states).contiguous().clone()
    options: dict[str, Any] = {"state_v_first": v_first, "tile": Tile(block=16, num_warps=1)}
    o = decode(**made, states=held, slots=at if wide else at.int(), **options)
    new = held.transpose(2, 3) if v_first else held
    torch.testing.assert_close(o[live], expected[live], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(new[[slots[n] for n in live]], after[live], rtol=1e-5, atol=1e-6)
    others = [slot for slot in range(SLOTS) if slot not in {slots[n] for n in live}]
    assert torch.equal(new[others], states[others])
    assert not o[[n for n in range(len(slots)) if n not in live]].any()


def test_packed_tokens_of_any_number():
    made = tokens("gdn2", 1, 6)
    boundaries = torch.tensor([0, 3, 3, 4, 6], dtype=torch.int32)
    states = pool()[:4].clone()
    expected, after = gated_delta_rule(
        **made, initial_state=states, output_final_state=True, cu_seqlens=boundaries, variant="torch"
    )
    o = decode(**made, states=states, cu_seqlens=boundaries, cu_seqlens_cpu=boundaries)
    torch.testing.assert_close(o, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(states, after, rtol=1e-5, atol=1e-6)


def test_compiles_without_graph_breaks():
    made, states = tokens("kda", 2, 1), pool()
    slots = torch.tensor([5, 1])
    eager, again = states.clone(), states.clone()
    expected = decode(**made, states=eager, slots=slots)
    step = torch.compile(lambda held: decode(**made, states=held, slots=slots), backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(step(again), expected, rtol=0, atol=0)
    torch.testing.assert_close(again, eager, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"states": torch.zeros(3, HV, K, V).half()}, "states is float16; accepted: a dense float32"),
        ({"states": torch.zeros(3, HV, V, K)}, r"states has shape .*; accepted: \[S, 2, 20, 24\]"),
        ({"states": torch.zeros(3, HV, K, 2 * V)[..., ::2]}, "states has strides"),
        ({"states": torch.zeros(3, HV, K, V), "slots": None}, "S = 2, or slots"),
        ({"slots": torch.tensor([1, 1])}, "holds a slot twice"),
        ({"slots": torch.tensor([1, SLOTS])}, "slots holds 7; accepted: below 7"),
        ({"slots": torch.tensor([1])}, r"slots has shape \[1\]; accepted: \[2\]"),
        ({"slots": torch.tensor([1.0, 2.0])}, "slots is float32; accepted: a dense int32"),
        ({"tile": 32}, "tile is of type int; accepted: a Tile"),
    ],
)
def test_bad_input_is_refused_in_one_line(change: dict[str, Any], message: str):
    call: dict[str, Any] = tokens("gdn", 2, 1) | {"states": pool(), "slots": torch.tensor([1, 0])} | change
    with pytest.raises((ValueError, TypeError), match=message) as caught:
        decode(**call)
    assert "\n" not in str(caught.value)


def test_without_triton_the_same_in_torch():
    program = """
import sys
import torch
from tests.helpers.pool import pool, tokens
from deltaproof.kernels import decode, gated_delta_rule
made, states = tokens("gdn2", 3, 2), pool()
o, after = gated_delta_rule(**made, initial_state=states[[4, 1, 2]], output_final_state=True, variant="torch")
held = states.transpose(2, 3).contiguous()
found = decode(**made, states=held, slots=torch.tensor([4, -1, 2]), state_v_first=True)
torch.testing.assert_close(found[[0, 2]], o[[0, 2]]); assert not found[1].any()
torch.testing.assert_close(held.transpose(2, 3)[[4, 2]], after[[0, 2]])
assert torch.equal(held.transpose(2, 3)[[0, 1, 3, 5, 6]], states[[0, 1, 3, 5, 6]])
assert "torch._dynamo" not in sys.modules, "the compiler takes as long to import as all of torch"
"""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
