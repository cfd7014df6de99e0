"""Counted instructions: what nests multiplies, and what is kept of them is what is read."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltaproof.results.schema.instructions import (
    Instructions,
    Loop,
    instructions_from_json,
    instructions_to_json,
)
from deltaproof.results.schema.strict import Fields, TableError

COUNTS = st.dictionaries(st.sampled_from(["fp32", "tensor core", "async copy", "spill"]), st.integers(0, 99))


@st.composite
def programs(draw) -> Instructions:
    loops, deepest = [], -1
    for _ in range(draw(st.integers(0, 6))):
        deepest = draw(st.integers(0, deepest + 1))
        loops.append(Loop(depth=deepest, own=draw(COUNTS)))
    return Instructions(straight=draw(COUNTS), loops=tuple(loops))


@given(programs(), st.data())
def test_a_loop_runs_as_often_as_all_around_it_together(program: Instructions, data: st.DataObject):
    trips = {id(loop): data.draw(st.integers(0, 5)) for loop in program.loops}
    expected = Counter(program.straight)
    for place, loop in enumerate(program.loops):
        times, depth = trips[id(loop)], loop.depth
        for outer in reversed(program.loops[:place]):
            if outer.depth < depth:
                times, depth = times * trips[id(outer)], outer.depth
        expected.update({name: count * times for name, count in loop.own.items()})
    assert program.issued(lambda loop: trips[id(loop)]) == expected


@given(programs())
def test_once_each_is_what_the_program_has(program: Instructions):
    assert sum(program.issued(lambda _: 1).values()) == program.static


@given(programs(), st.integers(0, 5))
def test_the_whole_is_what_is_straight_and_the_steps_of_the_outermost_loops(program: Instructions, trips: int):
    total = Counter(program.straight)
    for loop in program.loops:
        if loop.depth == 0:
            step = program.step(loop, lambda _: trips)
            total.update({name: trips * count for name, count in step.items()})
    assert total == program.issued(lambda _: trips)


@given(programs())
def test_what_is_kept_is_what_is_read(program: Instructions):
    text = json.dumps(instructions_to_json(program))
    assert instructions_from_json(Fields(json.loads(text), "here")) == program


@pytest.mark.parametrize("stages", [1, 2, 3, 4])
def test_buffers_are_the_copies_before_the_loop_and_the_one_in_use(stages: int):
    copies = 6
    loop = Loop(depth=0, own={"async copy": copies if stages > 1 else 0, "tensor core": 9})
    program = Instructions(straight={"async copy": copies * (stages - 1)}, loops=(loop,))
    assert program.buffers == stages


@pytest.mark.parametrize(("inside", "behind", "copies"), [(8, 0, 1), (8, 4, 2), (8, 6, 4), (8, 5, 1), (8, 8, 1)])
def test_an_unrolled_loop_is_told_by_what_is_left_over(inside: int, behind: int, copies: int):
    loop = Loop(depth=0, own={"tensor core": inside})
    assert Instructions(straight={"tensor core": behind}, loops=(loop,)).unrolled == copies


GOOD = {"straight": {"fp32": 3}, "loops": [{"depth": 0, "own": {"spill": 1}}]}


@pytest.mark.parametrize(
    "bad",
    [
        {**GOOD, "straight": {"fp32": -1}},
        {**GOOD, "straight": {"fp32": 1.5}},
        {**GOOD, "straight": {"FP 32!": 1}},
        {**GOOD, "loops": [{"depth": 1, "own": {}}]},
        {**GOOD, "loops": [{"depth": 0, "own": {}, "more": 1}]},
        {**GOOD, "loops": {}},
        {**GOOD, "more": 1},
        {"straight": {}},
        [],
        None,
    ],
)
def test_anything_else_is_refused(bad: object):
    instructions_from_json(Fields(GOOD, "here"))
    with pytest.raises(TableError, match="here"):
        instructions_from_json(Fields(bad, "here"))
