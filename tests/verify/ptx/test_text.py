"""Reading PTX: what is no program is refused in one line."""

from __future__ import annotations

import pytest

from deltaproof.verify.ptx.assembly.assemble import assemble
from deltaproof.verify.ptx.assembly.text import parse
from deltaproof.verify.ptx.errors import PtxError, UnknownInstruction

from .small import module
from .stored import read

WHOLE = module("mov.u32 %r3, 5;")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not PTX"), ("int main() {}", "not PTX"), (WHOLE[: len(WHOLE) - 20], "is cut"), (WHOLE[:150], "cut|kernels|threads"),
        (WHOLE + WHOLE[WHOLE.index(".visible") :], "2 kernels"), (WHOLE.replace(".reqntid 128", ""), "threads"),
        (WHOLE.replace(".reqntid 128", ".reqntid 100"), "multiple of 32"),
        (WHOLE.replace("mov.u32 %r3", "mov.u32 %x9"), "not declared"),
        (WHOLE.replace("mov.u32 %r3, 5", "12 34"), "not an instruction"),
    ],
)  # fmt: skip
def test_what_is_no_program_is_refused_in_one_line(text: str, says: str):
    with pytest.raises(PtxError, match=says) as caught:
        assemble(text, 0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("part", range(1, 8))
def test_a_stored_program_cut_anywhere_is_refused(part: int):
    text = read("scores_one_stage")
    with pytest.raises(PtxError):
        assemble(text[: len(text) * part // 8], 0)


def test_calls_and_clusters_are_unsupported():
    with pytest.raises(UnknownInstruction, match="call"):
        parse(module("call.uni helper, ();"))
    with pytest.raises(UnknownInstruction, match="cluster"):
        parse(WHOLE.replace(".reqntid 128", ".reqntid 128 .reqnctapercluster 2"))


def test_scopes_have_registers_and_labels_of_their_own():
    body = (
        "{ .reg .b32 t; mov.u32 t, 1; bra there; there: add.s32 %r3, t, 1; }"
        "{ .reg .b32 t<2>; mov.u32 t1, 2; bra there; there: add.s32 %r4, t1, 1; }"
    )
    kernel = parse(module(body))
    assert len([name for name in kernel.labels if name.startswith("there")]) == 2
    assert {s.operands[0] for s in kernel.statements if s.opcode == "bra"} == set(kernel.labels)


def test_source_lines_and_what_they_were_inlined_at():
    kernel = parse(read("scores_one_stage"))
    assert any(s.source.startswith("rows.py:") and "@ packed.py:" in s.source for s in kernel.statements)
