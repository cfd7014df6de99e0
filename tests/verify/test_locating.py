"""How well localisation does is itself measured rightly: a fault is planted, found, and its stage named and scored."""

from __future__ import annotations

import ast
import copy
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from deltaproof.kernels import KERNELS
from deltaproof.kernels.configs.launch_config import LaunchConfig
from deltaproof.specs.problem import Problem
from deltaproof.specs.rule import RULES
from deltaproof.verify.cases.replay import Case, Replay
from deltaproof.verify.execution.harness import Harness, field_inputs
from deltaproof.verify.mutants.engines import ENGINES
from deltaproof.verify.mutants.judge import MutantResult
from deltaproof.verify.mutants.locating import Located, LocateTask, document, locate, run, sentence, summary
from deltaproof.verify.mutants.mutant import Source
from deltaproof.verify.mutants.pool import CampaignSettings

CASE = Case(problem=Problem(rule=RULES["gdn2"], T=3, K=3, V=2), config=LaunchConfig(chunk_size=16))


@pytest.fixture(scope="module")
def sources() -> dict[str, Source]:
    """The device functions of the split variant."""
    found: dict[str, Source] = {}

    def note(name: str, tree: ast.Module) -> ast.Module:
        found[name.rpartition(":")[2]] = Source(name=name, tree=copy.deepcopy(tree))
        return tree

    Harness(kernel=KERNELS["chunk_fwd/split"], transform=note).exact(CASE, field_inputs(CASE.problem))
    return found


@pytest.mark.parametrize(
    ("function", "before", "stages", "chance"),
    [
        ("chunk_scores", "s_qk * scale", {"scores"}, 1 / 3),
        ("states_kernel", "scale * tl.dot(query, operand, input_precision='ieee')", {"states"}, 1 / 3),
        ("decays_of_rows", "up *= factors[j]", {"operands"}, 1 / 3),
    ],
)  # fmt: skip
def test_a_planted_fault_is_scored(
    sources: dict[str, Source], function: str, before: str, stages: set[str], chance: float
):
    mutants = ENGINES["deltaproof"].mutants_of(sources[function])
    faults = [x for x in mutants if x.before == before and x.operator == "factor"]
    replay = Replay(prop="equality", kernel="chunk_fwd/split", case=CASE).token
    located = run(LocateTask(mutant=faults[0], replay=replay, target="deltaproof", tau=24.0))
    assert located.right
    assert located.named in stages
    assert (located.chance, located.choices) == (pytest.approx(chance, abs=1e-4), 3)


def one(**changes: Any) -> Located:
    fields = {"id": "i", "stage": "scores", "function": "f", "operator": "sign", "named": "scores", "right": True,
              "chance": 0.25, "choices": 4}  # fmt: skip
    return Located(**{**fields, **changes})


def test_the_figure_leaves_out_what_leaves_no_choice():
    located = [one(), one(right=False, named=None, stage="states"), one(chance=1.0, choices=1, stage="tokens")]
    found = summary(located)
    assert (found["faults"], found["right"]) == (3, 0.6667)
    assert found["with_a_choice"]["faults"] == 2
    assert found["with_a_choice"]["right"] == 0.5
    assert found["with_a_choice"]["chance"] == 0.25
    assert found["stages"]["states"]["named"] == {"nothing": 1}
    assert "50.0% of 2" in sentence(located)


def test_stages_count_alike_however_many_faults_they_had():
    located = [one(), one(), one(), one(stage="states", right=False)]
    assert summary(located)["with_a_choice"]["right_by_stage"] == 0.5


def test_nothing_located_is_no_success():
    assert summary([])["right"] is None
    assert "no fault" in sentence([])
    assert document([], {}, {})["faults"] == []


def test_what_was_localised_is_kept(tmp_path: Path, sources: dict[str, Source]):
    mutant = next(ENGINES["deltaproof"].mutants_of(sources["scores_kernel"]))
    setting = CampaignSettings(
        target="deltaproof", tau=24.0, jobs=1, folder=tmp_path, timeout=1.0, profile="quick", digest="d", words=("localise",)
    )  # fmt: skip
    setting.log.write_text(json.dumps(asdict(one(id=mutant.id))) + '\n{"id": "torn')
    killed = MutantResult(
        id=mutant.id, operator=mutant.operator, stage=mutant.stage, where=mutant.where, status="killed", seconds=1.0, asked=1,
        replay=Replay(prop="equality", kernel="chunk_fwd/split", case=CASE).token,
    )  # fmt: skip
    told: list[Located] = []
    assert locate([mutant], [killed, replace(killed, status="survived")], setting, told.append) == told
    assert told == [one(id=mutant.id)]
