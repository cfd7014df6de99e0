"""The findings of a run, as records."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ...kernels.configs.launch_config import LaunchConfig
from ...results.digests.kernels import kernel_digest, stage_digests
from ...results.schema.gpus import Resources
from ...results.schema.key import Key
from ...results.schema.record import Compiled, Estimated, Gated, Ranking, Record, Rejected, Unexplored, record_digest
from ...verify.compile.compilation import Compilation
from ...verify.compile.programs import triton_version
from ..compile.prune import Pruned
from ..gates.interpreter import GateAnswer, GateQuestion
from ..gates.running import SCHEDULES, RunAnswer, RunQuestion
from ..model.ranking import Ranked
from ..space.points import Family, Point


def compiled(point: Point, compilation: Compilation) -> Record:
    """The record of a compiled point."""
    key = point.family.key()
    if compilation.outcome != "compiled":
        return Rejected(
            key=key, **_about(point), reason=compilation.outcome, stage=point.stage, detail=compilation.detail
        )
    return Compiled(
        key=key,
        **_about(point),
        stage=point.stage,
        resources=Resources.of([(compilation.shared, compilation.registers, compilation.threads)]),
        stack=compilation.stack,
        tensor_core=tuple(sorted(compilation.tensor_core)),
        code=compilation.code,
        program=compilation.program,
        assembler=compilation.assembler,
        seconds=compilation.seconds,
        instructions=compilation.instructions,
    )


def rejected(pruned: Pruned, found: Mapping[Point, Compilation]) -> list[Record]:
    """The points that were rejected after they had compiled; the others were recorded when they failed to."""
    return [
        Rejected(key=point.family.key(), **_about(point), reason=left.reason, stage=point.stage, detail=left.detail)
        for point, left in pruned.rejected.items()
        if found[point].outcome == "compiled"
    ]


def unexplored(wanted: Sequence[Family], left: Mapping[Family, int], known: Iterable[Record]) -> list[Record]:
    """The counts of points that a budget left, and a record of 0 where some were left before and none is now."""
    before = {record.key: record for record in known if isinstance(record, Unexplored)}
    found = []
    for family in wanted:
        last = before.get(family.key())
        if left.get(family, 0) or (last and last.count):
            found.append(Unexplored(key=family.key(), **_made_by(family.key()), count=left.get(family, 0)))
    return found


def ranking(family: Family, few: Sequence[Ranked]) -> list[Record]:
    """A ranking: its predictions, then the record that makes it the current one. Its name is a digest of all that it says."""
    found = [
        Estimated(
            key=family.key(tokens, heads),
            config=ranked.config.token,
            **_made_by(family.key(), ranked.config.token),
            milliseconds=milliseconds,
            resources=ranked.resources,
        )
        for ranked in few
        for (tokens, heads), milliseconds in ranked.milliseconds.items()
    ]
    name = hashlib.sha256(" ".join(map(record_digest, found)).encode()).hexdigest()[:16]
    return [
        *(replace(one, ranking=name) for one in found),
        Ranking(key=family.key(), **_made_by(family.key()), ranking=name),
    ]


def judged(answer: GateAnswer, sources: str) -> Record:
    """An answer of the interpreter. One that is not final has no evidence's name, so that the next run asks again."""
    question = answer.question
    key = Family(op=question.op, rule=question.rule, dtype=question.dtype, K=question.K, V=question.V).key()
    return Gated(
        key=key,
        config=question.token,
        **_made_by(key, question.token),
        where="interpreter",
        held=answer.held,
        detail=answer.detail[:400],
        evidence=evidence(question, sources) if answer.final else "",
    )


def judged_as_compiled(family: Family, config: LaunchConfig, stages: Mapping[str, Compilation]) -> Gated:
    """The verdict on a configuration from its programs, by stage. All of them have compiled."""
    found = ((stage, binary.hazard or binary.misassembled) for stage, binary in stages.items())
    hazards = [f"{stage}: {wrong}" for stage, wrong in found if wrong]
    return Gated(
        key=family.key(),
        config=config.token,
        **_made_by(family.key(), config.token),
        where="compiled",
        held=not hazards,
        detail="; ".join(hazards) or f"no known hazard in {', '.join(stages)}",
    )


def judged_by_running(answer: RunAnswer, name: str, assembler: str) -> Gated:
    """The verdict of running a configuration as compiled, which has an answer. name: of the evidence."""
    question = answer.question
    assert answer.held is not None
    return Gated(
        key=question.family.key(),
        config=question.config.token,
        **_made_by(question.family.key(), question.config.token),
        where="compiled",
        held=answer.held,
        detail=answer.detail,
        evidence=name,
        schedules=tuple(schedule.name for schedule in SCHEDULES),
        program=answer.program,
        assembler=assembler,
    )


def evidence_of_run(question: RunQuestion, engine: str) -> str:
    """Names a question as answered by this engine for the kernels and the Triton that are here."""
    about = _made_by(question.family.key(), question.config.token)
    words = (engine, str(question), *about.values(), *(repr(schedule) for schedule in SCHEDULES))
    return hashlib.sha256("\0".join(words).encode()).hexdigest()[:16]


def evidence(question: GateQuestion, sources: str) -> str:
    """Names a question as judged by these sources: equal names, equal answers."""
    words = (sources, *map(str, question.subject), *(config.token for config in question.configs))
    return hashlib.sha256("\0".join(words).encode()).hexdigest()[:16]


def _about(point: Point) -> dict[str, str]:
    return {"config": point.config.token, "kernel": stage_digests()[point.stage], "triton": triton_version()}


def _made_by(key: Key, config: str = "-") -> dict[str, Any]:
    return {"kernel": kernel_digest(key, config), "triton": triton_version()}
