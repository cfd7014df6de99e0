"""Machine code that computes with registers which nothing has written. The listings are ptxas 12.8.93's, shortened."""

from __future__ import annotations

import lzma
import subprocess
from pathlib import Path

import pytest
from triton.backends.nvidia.compiler import get_ptxas

from deltaproof.kernels.launches.machine_code import parse
from deltaproof.verify.ptx.static.machine_code import unwritten, unwritten_registers

WRONG = """
        /*0000*/                   LDC R1, c[0x0][0x28] ;
        /*0010*/                   S2R R8, SR_CTAID.X ;
        /*0020*/                   LDC.64 R6, c[0x0][0x268] ;
        /*0050*/                   IMAD.WIDE.U32 R2, R8, 0x4, RZ ;
        /*0060*/                   LOP3.LUT R5, R2, 0xfffffff8, RZ, 0xc0, !PT ;
        /*0090*/                   IMAD.X R5, R2, 0x1, R7, P0 ;
        /*0100*/               @!P0 EXIT ;
        /*0160*/                   IADD3 R5, P0, R5, 0x40, RZ ;
        /*01a0*/                   R2UR UR8, R5 ;
        /*0280*/                   IADD3.X R12, R12, -0x7fffffe0, RZ, P0, !PT ;
        /*02a0*/                   LOP3.LUT R9, R9, 0xffff7fff, RZ, 0xc0, !PT ;
        /*02c0*/                   R2UR UR9, R12 ;
        /*fb60*/                   HGMMA.64x32x16.F32.BF16 R24, R60, gdesc[UR8].tnspB, R24 ;
        /*fb70*/                   EXIT ;
"""
LOOP = """
        /*0000*/                   LDC R1, c[0x0][0x28] ;
        /*0010*/                   MOV R2, RZ ;
.L_x_0:
        /*0020*/                   ISETP.GE.AND P0, PT, R2, 0x4, PT ;
        /*0030*/               @P0 IADD3 R4, R3, 0x1, RZ ;
        /*0040*/                   MOV R3, R2 ;
        /*0050*/                   IADD3 R2, R2, 0x1, RZ ;
        /*0060*/               @!P0 BRA `(.L_x_0) ;
        /*0070*/                   EXIT ;
"""


DATA = Path(__file__).parent / "data"


def findings(text: str) -> list[str]:
    return [finding.detail for finding in unwritten(parse(text), "kernel")]


def test_a_descriptor_of_which_nothing_is_defined_is_found():
    assert findings(WRONG) == ["R12 at 0x280 of the machine code"]


def test_an_assembler_is_judged_by_what_it_makes_of_a_program(tmp_path: Path):
    """12.8.93 drops a descriptor of this one, which an H200 then reads out of bounds; with -O1 it does not."""
    (tmp_path / "in.ptx").write_bytes(lzma.decompress((DATA / "descriptor_dropped.ptx.xz").read_bytes()))
    ptxas = get_ptxas(90)
    found = {}
    for level in ("-O3", "-O1"):
        subprocess.run([ptxas.path, "-arch=sm_90a", level, "in.ptx", "-o", "out"], cwd=tmp_path, check=True)
        found[level] = [
            x.instruction for x in unwritten_registers((tmp_path / "out").read_bytes(), "state_grads_kernel")
        ]
    assert not found["-O1"]
    assert found["-O3"] == (["IADD3.X R12, R12, -0x7fffffe0, RZ, P0, !PT"] if ptxas.version == "12.8" else [])


def test_with_its_definition_there_is_nothing():
    assert not findings(WRONG.replace("R2UR UR8, R5", "SHF.R.U32.HI R12, RZ, 0x4, R8"))


def test_a_register_that_an_earlier_turn_of_a_loop_wrote_is_written():
    assert not findings(LOOP)
    assert findings(LOOP.replace("MOV R3, R2", "MOV R7, R2")) == ["R3 at 0x30 of the machine code"]


@pytest.mark.parametrize(
    "harmless", ["PRMT R12, R8, 0x7632, R12", "LOP3.LUT R12, R12, 0x1, RZ, 0xc0, !PT", "STL [R1], R12"]
)
def test_packing_bits_and_spilling_are_no_faults(harmless: str):
    assert not findings(WRONG.replace("IADD3.X R12, R12, -0x7fffffe0, RZ, P0, !PT", harmless))


def test_nothing_is_said_of_branches_to_computed_addresses():
    assert not findings(WRONG.replace("R2UR UR8, R5", "BRX R2 -0x10"))
