"""A point is judged by every program that calls make of it, and costs what the one with states does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

from deltaproof.autotune.compile import compiler
from deltaproof.autotune.compile.prune import prune
from deltaproof.autotune.compile.stage import compile_points
from deltaproof.autotune.space.points import Family, Point, enumerate_points
from deltaproof.specs.gpus import gpu
from deltaproof.verify.compile import process, programs
from deltaproof.verify.compile.compilation import Cache
from deltaproof.verify.process.pool import Failure, Workers
from tests.helpers.synthetic import compilation

ARCH = gpu("h100").arch
TRAINING = Family(op="chunk_train", rule="gdn", dtype="bf16", K=64, V=64)
INFERENCE = replace(TRAINING, op="chunk_fwd")
WITH, WITHOUT = 64, 48
"""Registers of the programs with and without states."""


def first_points(family: Family) -> dict[str, Point]:
    """A point of each stage, none of them the default."""
    return {point.stage: point for point in enumerate_points(family, ARCH)[0] if not point.is_default}


POINTS = {**first_points(TRAINING), **first_points(INFERENCE)}
PROGRAMS = {
    "scores": 1, "output": 1, "score_grads": 1, "input_grads": 1, "state_grads": 2,
    "states": 3,  # training walks them twice, and stores the last one in one of the walks
    "packed_scores": 2, "packed_walk": 3,  # in groups every one has a state before it, and none after
    "group_bounds": 2, "group_maps": 1, "group_starts": 2,
}  # fmt: skip


def compile_as_if() -> None:
    """Prepare a process whose assembler goes wrong where a walk begins without a state, and only there."""

    def compile_clean(launch, target):
        bare = not launch.arguments.get("INITIAL", True)
        return SimpleNamespace(
            shared=4096, registers=WITHOUT if bare else WITH, stack=0, tensor_core={}, assembly="",
            code=f"{launch.source().hash()} {bare}".encode(),
        )  # fmt: skip

    process.start()
    programs.compile_clean = compile_clean
    programs.read_instructions = lambda code: None
    programs.misassembled = lambda code, name: "a descriptor is lost" if code.endswith(b"True") else ""


def test_what_is_wrong_without_states_alone_costs_the_point(tmp_path: Path):
    points = [POINTS[stage] for stage in PROGRAMS]
    with Workers(1, compile_as_if) as workers:
        named = list(workers.run(compiler.name_points, [([point], ARCH.target) for point in points], 60))
        done = compile_points(points, ARCH, workers, Cache(folder=tmp_path))
        again = compile_points(points, ARCH, workers, Cache(folder=tmp_path))
    counts = {points[index].stage: len(found[0]) for index, found in named if not isinstance(found, Failure)}
    assert counts == PROGRAMS
    total = sum(PROGRAMS.values())
    assert (done.ran, again.ran, again.cached) == (total, 0, total), "no program is compiled twice"
    assert again.found == done.found
    assert {found.registers for found in done.found.values()} == {WITH}, "costs are those of the call with states"
    rejected = prune(done.found, ARCH).rejected
    assert {point.stage: left.reason for point, left in rejected.items()} == dict.fromkeys(
        ("states", "state_grads", "packed_walk", "group_starts"), "assembler"
    )


def test_a_budget_that_ends_between_two_programs_leaves_the_point(tmp_path: Path):
    point = POINTS["state_grads"]

    class Stub(Workers):
        def run(self, task, arguments, *_, **__):
            if task is compiler.name_points:
                yield 0, [["with states", "without"]]
            else:
                yield from ((index, compilation(str(one[2]))) for index, one in list(enumerate(arguments))[:1])

    def compiled():
        return compile_points([point], ARCH, Stub(1, process.start), Cache(folder=tmp_path))

    first, second = compiled(), compiled()
    assert not first.found and first.left == {TRAINING: 1}
    assert (second.cached, second.ran, list(second.found)) == (1, 1, [point]), "and the next run goes on from there"
    assert second.found[point].code == compilation("0").code
