"""Sequences in groups of chunks: bits depend on a sequence and its configuration alone, and no large state is lost."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deltaproof.kernels import KERNELS, LaunchConfig, gated_delta_rule
from deltaproof.results.files.calibration import tau
from deltaproof.specs.budget import budget
from deltaproof.specs.inputs.make import generate
from deltaproof.specs.problem import Problem
from deltaproof.specs.rule import RULES
from deltaproof.verify.cases.replay import Case
from deltaproof.verify.execution.contracts import contract_of
from deltaproof.verify.execution.harness import Harness
from deltaproof.verify.properties.error import worst_row
from tests.helpers.pool import HV, K, V, tokens

CONFIG = LaunchConfig(variant="packed", chunk_size=16, group=2)


@settings(max_examples=5)
@given(
    rule=st.sampled_from(list(RULES)),
    lengths=st.lists(st.sampled_from((0, 1, 31, 32, 33, 64, 70)), min_size=1, max_size=2),
    dtype=st.sampled_from((torch.float32, torch.bfloat16)),
    final=st.booleans(),
)
def test_a_sequence_has_the_same_bits_alone_and_among_others(rule, lengths, dtype, final):
    made = {
        name: x if name == "g" else x.to(dtype) for name, x in tokens(rule, 1, sum(lengths)).items() if x is not None
    }
    states = torch.rand(len(lengths), HV, K, V, generator=torch.Generator().manual_seed(1)) - 0.5
    bounds = torch.tensor([0, *lengths]).cumsum(0)
    options = {"variant": "packed", "config": CONFIG, "output_final_state": final}
    o, ht = gated_delta_rule(**made, initial_state=states, cu_seqlens=bounds, **options)
    for n, (first, end) in enumerate(pairwise(bounds.tolist())):
        own = {name: x[:, first:end] for name, x in made.items()}
        alone, after = gated_delta_rule(**own, initial_state=states[n : n + 1], **options)
        assert torch.equal(o[:, first:end], alone)
        if final:
            assert ht is not None and after is not None
            assert torch.equal(ht[n], after[0])


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
@pytest.mark.parametrize("forgetting", [0.2, 0.6, 2.0])
def test_a_large_state_is_not_lost_where_a_group_keeps_little_of_it(dtype, forgetting):
    kernel = KERNELS["chunk_fwd/grouped"]
    problem = Problem(rule=RULES["gdn2"], dtype=dtype, T=3 * CONFIG.group_tokens + 1, K=24, V=16, seed=7)
    case, inputs = Case(problem=problem, config=CONFIG), generate(problem)
    assert inputs.h0 is not None and inputs.g is not None
    g = -np.random.default_rng(0).uniform(0, 2 * forgetting, inputs.g.shape).astype(np.float32).astype(np.float64)
    inputs = replace(inputs, h0=inputs.h0 * 2.0**13, v=inputs.v * 0.0, g=g)
    found = Harness(kernel=kernel, kernels=KERNELS, tau=tau(), device="cpu").faithful(case, inputs)
    worst = worst_row({name: found[name] for name in ("o", "ht")}, budget(problem, inputs, contract_of(kernel, case)))
    assert worst is not None and worst.ratio <= tau()
