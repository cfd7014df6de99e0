"""What compiled programs move and how often their loops run: exact on small programs, and `verify bytes` for whole kernels."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from .small import verdict
from .test_compiled import run

STRIDED = """
    mad.wide.u32 %d2, %r0, {stride}, %d0;
    mul.lo.s32 %r3, %r0, {shared};
    mov.u32 %r4, smem;
    add.s32 %r3, %r3, %r4;
    mov.u32 %r5, 0;
again:
    ld.global.b32 %r6, [%d2];
    st.shared.b32 [%r3], %r6;
    st.global.b32 [%d2], %r6;
    add.u32 %r5, %r5, 1;
    setp.lt.u32 %p1, %r5, {trips};
    @%p1 bra again;
"""


@settings(max_examples=25, deadline=None)
@given(words=st.integers(0, 12), banks=st.integers(0, 8), trips=st.integers(1, 5))
def test_sectors_passes_and_trips_are_those_of_the_addresses(words: int, banks: int, trips: int):
    """Each of two warps reads and writes one word in `words`, and stores to shared memory at one word in `banks`."""
    body = STRIDED.format(stride=4 * words, shared=4 * banks, trips=trips)
    found = verdict(body, np.zeros(1024, np.uint32), threads=64, shared=4096)
    count = found.traffic
    touched = [{4 * words * lane for lane in range(first, first + 32)} for first in (0, 32)]
    sectors = sum(len({address // 32 for address in some}) for some in touched)
    for direction in ("load", "store"):
        assert count[f"global_{direction}_bytes"] == trips * 64 * 4
        assert count[f"global_{direction}_sectors"] == trips * sectors
        assert count[f"global_{direction}_used"] == trips * sum(4 * len(some) for some in touched)
    conflicts = max(Counter(word % 32 for word in {banks * lane for lane in range(32)}).values())
    assert (count["shared_store_ideal"], count["shared_store_passes"]) == (2 * trips, 2 * trips * conflicts)
    assert [loop.trips for loop in found.loops] == [2 * trips]


def test_the_command_counts_launches_and_agrees_with_the_interpreter(tmp_path: Path):
    asked = ("--kernel", "chunk_fwd/packed", "--rule", "gdn", "--tokens", "64", "--config", "c32", "--channels", "64")
    calls = {}
    for device in ("sm_90", "interpreter"):
        out = tmp_path / f"{device}.json"
        done = run("-m", "deltaproof.verify", "bytes", "--device", device, *asked, "--stages", "--json", str(out))
        assert done.returncode == 0, done.stdout + done.stderr
        (calls[device],) = json.loads(out.read_text())["calls"]
        assert "[c32" in done.stdout, "the table says which configuration"
    assert calls["sm_90"]["rows"] == 64
    launches = {launch["kernel"]: launch for launch in calls["sm_90"]["launches"]}
    stages = {stage["stage"]: stage for stage in calls["interpreter"]["stages"]}
    assert launches.keys() == stages.keys()
    for name, launch in launches.items():
        different = 64 * (stages[name]["read"] + stages[name]["written"])
        assert launch["bytes_moved"] >= launch["bytes_used"] >= different
        assert launch["wavefronts"] >= launch["wavefronts_ideal"] > 0 and launch["products"] > 0
    assert [loop["trips"] for loop in launches["packed_walk_kernel"]["loops"]] == [2], "one for each chunk"


def test_a_device_that_is_no_architecture_ends_with_one_line():
    done = run("-m", "deltaproof.verify", "bytes", "--device", "cuda")
    assert done.returncode == 2 and len(done.stderr.strip().splitlines()) == 1
