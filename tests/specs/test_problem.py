"""Tokens of problems read back as the problem they were printed from; shapes that cannot be are refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltaproof.specs.problem import Problem
from deltaproof.specs.rule import RULES, Rule


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    rule = draw(st.sampled_from(list(RULES.values())))
    lengths = draw(st.none() | st.lists(st.integers(0, 5), min_size=1, max_size=4).map(tuple))
    H = draw(st.integers(1, 3))
    return Problem(
        rule=rule,
        dtype=draw(st.sampled_from(["fp32", "bf16", "fp16"])),
        B=1 if lengths is not None else draw(st.integers(1, 3)),
        T=sum(lengths) if lengths is not None else draw(st.integers(0, 200)),
        H=H,
        HV=H * draw(st.integers(1, 3)),
        K=draw(st.integers(1, 256)),
        V=draw(st.integers(1, 256)),
        regime=draw(st.sampled_from(["ordinary", "reset_inf"])),
        seed=draw(st.integers(0, 2**32)),
        lengths=lengths,
        initial_state=draw(st.booleans()),
        final_state=draw(st.booleans()),
        gate_heads=draw(st.sampled_from(["value", "key"])),
        strided=draw(st.booleans()),
        qk_l2norm=draw(st.booleans()),
        gate_in_kernel=rule.decay != "none" and draw(st.booleans()),
        scale=draw(st.none() | st.floats(allow_nan=False, allow_infinity=False)),
    )


@given(problems())
def test_a_token_reads_back_as_its_problem(problem: Problem):
    assert Problem.parse(problem.token) == problem
    assert " " not in problem.token


@given(problems())
def test_sequences_cover_every_token_once(problem: Problem):
    covered = sorted((row, t) for row, start, length in problem.sequences for t in range(start, start + length))
    assert covered == [(row, t) for row in range(problem.B) for t in range(problem.T)]


@pytest.mark.parametrize(
    ("token", "complaint"),
    [
        ("gdn2", "not a problem token"),
        ("gdn9:fp32:b1:t4:h1x1:k4:v4:ordinary:s0", "unknown rule 'gdn9'"),
        ("gdn2:fp64:b1:t4:h1x1:k4:v4:ordinary:s0", "unknown dtype 'fp64'"),
        ("gdn2:fp32:b1:t4:h1x1:k4:v4:ordinary:s0+fast", "unknown options"),
        ("gdn2:fp32:b1:t4:h2x3:k4:v4:ordinary:s0", "not a multiple"),
        ("gdn2:fp32:b1:t4:h1x1:k4:v4:ordinary:s0+lengths=1.2", "T=3"),
        ("gdn2:fp32:b1:t4:h1x1:k0:v4:ordinary:s0", "must be positive"),
        ("delta_rule:fp32:b1:t4:h1x1:k4:v4:ordinary:s0+raw_gate", "no decay gate"),
    ],
)
def test_what_cannot_be_is_refused_by_name(token: str, complaint: str):
    with pytest.raises(ValueError, match=complaint):
        Problem.parse(token)


def test_a_write_gate_tied_to_a_channelwise_erase_gate_has_no_meaning():
    with pytest.raises(ValueError, match="cannot be tied"):
        Rule(name="odd", decay="none", erase="channel", write="tied")
