"""The rules that a compiled program must keep, in the numbers of native/engine.h."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PtxRule:
    """One rule. code: its name in findings. sentence: the fault in words. note: worth knowing, and no fault by itself.

    report: the public report of a fault of this kind.
    """

    number: int
    code: str
    sentence: str
    note: bool = False
    report: str = ""


_TRITON, _FLA = "https://github.com/triton-lang/triton", "https://github.com/fla-org/flash-linear-attention"
_PROXY = f"{_FLA}/issues/640"
_FLIGHT = f"{_TRITON}/issues/11047"

RULES = {
    rule.code: rule
    for rule in (
        PtxRule(number=1, code="shared-read-write", sentence="shared memory is read that another warp wrote, no barrier between"),
        PtxRule(
            number=2, code="shared-write-write",
            sentence="two warps write other values to shared memory, no barrier between",
        ),
        PtxRule(number=3, code="shared-write-read", sentence="shared memory is overwritten that another warp read, unordered"),
        PtxRule(
            number=4, code="operand-in-flight", report=f"{_TRITON}/pull/8554",
            sentence="shared memory is overwritten while an asynchronous product still reads it",
        ),
        PtxRule(
            number=5, code="operand-unordered", report=_FLIGHT,
            sentence="shared memory is overwritten that another warpgroup's product read, with no barrier after its wait",
        ),
        PtxRule(
            number=6, code="proxy-fence", report=_PROXY,
            sentence="an asynchronous read sees a generic write that no fence.proxy.async covers",
        ),
        PtxRule(number=7, code="async-unordered", sentence="an asynchronous read sees a write with no barrier between"),
        PtxRule(number=8, code="unwritten", sentence="shared memory is read that nothing has written", note=True),
        PtxRule(number=9, code="copy-read", sentence="bytes of a cp.async are read before it was waited for"),
        PtxRule(number=10, code="copy-write", sentence="bytes of a cp.async are written before it was waited for"),
        PtxRule(
            number=11, code="register-in-flight",
            sentence="a register of an asynchronous product is touched before its wait",
        ),
        PtxRule(
            number=12, code="register-fence",
            sentence="a register of an asynchronous product is written after the wgmma.fence that precedes it",
        ),
        PtxRule(
            number=13, code="register-moved", note=True,
            sentence="a register of an asynchronous product is moved after the wgmma.fence, which ptxas may fold away",
        ),
        PtxRule(
            number=14, code="global-read-write",
            sentence="global memory is read that another program or warp wrote, unordered",
        ),
        PtxRule(number=15, code="global-write-write", sentence="global memory is written by two programs or warps, unordered"),
        PtxRule(
            number=16, code="global-write-read",
            sentence="global memory is overwritten that another program read, unordered",
        ),
        PtxRule(number=17, code="divergent-barrier", sentence="not all lanes of a warp come to a barrier"),
        PtxRule(number=18, code="shared-bounds", sentence="shared memory is accessed out of bounds"),
        PtxRule(number=19, code="global-bounds", sentence="a tensor is accessed out of bounds"),
        PtxRule(number=20, code="wild-address", sentence="global memory is accessed that belongs to no tensor"),
        PtxRule(number=21, code="shared-alignment", sentence="an access of shared memory is not aligned to its size"),
        PtxRule(number=22, code="global-alignment", sentence="an access of global memory is not aligned to its size"),
        PtxRule(number=23, code="deadlock", sentence="no warp can go on"),
        PtxRule(number=24, code="endless", sentence="the program does not end within the limit of instructions"),
        PtxRule(number=25, code="descriptor", sentence="a descriptor leaves the allocation, differs by thread, or is none"),
        PtxRule(number=26, code="masked-collective", sentence="an instruction of whole warps is executed by some lanes only"),
        PtxRule(number=27, code="unsupported", sentence="the program asks for what this engine does not do"),
        PtxRule(number=28, code="trap", sentence="the program traps"),
        PtxRule(number=29, code="bulk-in-flight", sentence="bytes of a TMA copy are touched before it is known to be over"),
        PtxRule(number=30, code="mbarrier", sentence="an mbarrier is not visibly initialised, or arrived at too often"),
        PtxRule(number=31, code="bulk-exit", sentence="the program ends before its TMA stores have read their bytes"),
        PtxRule(number=32, code="local-bounds", sentence="local memory is accessed out of bounds"),
        PtxRule(number=33, code="memory", sentence="there is not enough memory to run the program"),
        PtxRule(number=101, code="result-unwritten", sentence="what was never written reaches a result"),
        PtxRule(number=102, code="result-order", sentence="atomics give results that depend on the order of warps", note=True),
        PtxRule(
            number=201, code="lint-operand-reuse", report=f"{_TRITON}/pull/8554",
            sentence="a wait leaves products in flight whose shared memory is written again before they end",
        ),
        PtxRule(
            number=202, code="lint-proxy-fence", report=_PROXY,
            sentence="a product reads shared memory with no fence.proxy.async since it was written",
        ),
        PtxRule(
            number=204, code="lint-pending", note=True,
            sentence="a wait leaves products in flight, and shared memory is written that they may read",
        ),
        PtxRule(number=203, code="lint-register-fence", sentence="a product is not preceded by wgmma.fence"),
        PtxRule(
            number=301, code="register-unwritten",
            sentence="the assembler's machine code computes an address from a register that nothing has written",
        ),
    )
}  # fmt: skip
BY_NUMBER = {rule.number: rule for rule in RULES.values()}
