"""One verdict of every status."""

from __future__ import annotations

from dataclasses import replace

from deltaproof.verify.verdicts.judgement import Counterexample, Verdict

HELD = Verdict(
    kernel="chunk_train/staged",
    rule="gdn2",
    target="deltaproof",
    property="error",
    arithmetic="faithful",
    status="held",
    problems=3,
    seconds=1.5,
    worst_ratio=0.25,
    configs=("c16", "c64"),
)
FOUND = Counterexample(problem="p", config="c64", message="wrong", replay="r", index=(0, 1), got=1.0)
FAILED = replace(HELD, status="failed", kind="instability", counterexample=FOUND)
ERROR, UNSUPPORTED = replace(HELD, status="error", notes=("boom",)), replace(HELD, status="unsupported", problems=0)
