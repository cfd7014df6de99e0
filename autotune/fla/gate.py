"""The gate for FLA's kernels: calls with the chosen block sizes, judged in the interpreter before any of them is written.

The interpreter sees the effects of a block size: which elements a program reads, and in which order they are summed. Warps,
pipelining and the compiler it cannot see: the on-device gate stays pending, and every entry says so. All choices of a call are
judged together, as they will run. FLA's default paths lose strong decays in every configuration, so the inputs are those on which
they are known to be right.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from ...verify.compile.fake_device import Facts
from ...verify.process.pool import Workers
from ..foreign.questions import CallAnswer, CallQuestion
from . import installed
from .calls import OPS, FlaCall
from .pinned_configs import pinned_configs

if TYPE_CHECKING:
    from ...verify.cases.replay import Case

SECONDS = 1800.0
"""After which a question counts as hanging; the largest take a minute of an idle core."""

HARD = ("collinear", "growth", "strong")
"""Regimes beside the ordinary one; a rule meets those that it has, and that FLA's default path is known to be right on."""
LENGTHS = (0, 1, 64, 67)
"""Of a packed batch: nothing, a token, a whole chunk, and a chunk and a bit."""
TOKENS, FEW_TOKENS = 130, 20
"""Two chunks of 64 and a tail; less than one, where there are many heads."""


def gate_workers(jobs: int, facts: Facts, site: str) -> Workers:
    """Processes that judge: they interpret, and FLA takes them for ones with the GPU, since the paths that it takes depend on
    it."""
    return Workers(jobs, partial(installed.pretend, facts, "", site), interpret=True)


def lost(question: CallQuestion, ended: str) -> CallAnswer:
    """The answer where the process crashed or hung."""
    return CallAnswer(question=question, held=False, detail=f"{ended} in the interpreter", final=False)


def judge(question: CallQuestion) -> CallAnswer:
    """Error budgets, and addresses and races, up to the first failure. The choices are block sizes."""
    from ...results.files.calibration import tau
    from ...verify.cases.replay import Replay
    from ...verify.execution.harness import Harness
    from ...verify.properties import load
    from ...verify.run.judge import judge_case

    counts: dict[str, int] = {}
    worst = 0.0
    kernel = _kernel(question.call)
    for prop, case in _cases(question, kernel):
        with pinned_configs(dict(question.choices)) as state:
            outcome = judge_case(load(prop), case, Harness(kernel=state.around(kernel), tau=tau()))
        token = Replay(prop=prop, kernel=kernel.name, case=case).token
        if outcome.status != "held":
            return CallAnswer(question=question, held=False, detail=f"{outcome.status}: {outcome.message} in {token}")
        if missed := sorted(site for site, _ in question.choices if site not in state.reached):
            detail = f"{len(missed)} kernels were never launched, the first of them {missed[0][0]}, in {token}"
            return CallAnswer(question=question, held=False, detail=detail)
        counts[prop] = counts.get(prop, 0) + 1
        worst = max(worst, outcome.ratio or 0.0)
    judged = ", ".join(f"{prop} {count}" for prop, count in counts.items())
    return CallAnswer(question=question, held=True, detail=f"{judged}; worst error {worst:.3g} of the budget")


@lru_cache(maxsize=4)
def _kernel(call: FlaCall) -> Any:
    """The op as `verify --target fla` judges it; with fp32, its products take tf32 wherever it asks for that by name.

    Raises TableError for an FLA that cannot be judged.
    """
    from ...results.schema.strict import TableError
    from ...specs.rounding.contract import FP32, Rounding
    from ...verify.cases.target_names import FLA
    from ...verify.targets import load

    try:
        kernel = load(FLA).kernels[OPS[call.rule][1]]
    except ValueError as error:
        raise TableError(f"--target fla: {error}") from None
    return replace(kernel, fp32_operand=Rounding(unit=2.0**-11, quantum=FP32.quantum))


def _cases(question: CallQuestion, kernel: Any) -> Iterator[tuple[str, Case]]:
    """(property, case), the cheap ones first. Heads are one more than a program takes, so that there are two."""
    from ...specs.problem import Problem
    from ...specs.rule import RULES
    from ...verify.cases.replay import Case
    from ...verify.cases.strategies import regimes_of
    from ...verify.targets.fla import known_good

    call, rule = question.call, RULES[question.call.rule]
    together = max((dict(kwargs).get("BH", 1) for _, kwargs in question.choices), default=1)
    lengths = LENGTHS if call.packed else None
    problem = Problem(
        rule=rule,
        dtype=call.dtype,  # pyright: ignore[reportArgumentType]
        K=call.size,
        V=call.size,
        T=sum(lengths or (TOKENS,)),
        lengths=lengths,
        qk_l2norm=True,
        initial_state=False,
        final_state=False,
    )
    heads = replace(problem, H=together + 1, HV=together + 1, T=FEW_TOKENS, lengths=(3, 17) if call.packed else None)
    hard = [replace(problem, regime=name) for name in HARD if name in regimes_of(rule)]
    asked = [("error", problem), *(("error", one) for one in hard if known_good(kernel, one) is True)]
    for prop, one in [*asked, ("error", heads), ("memory", problem)]:
        yield prop, Case(problem=one, config=kernel.configs(one)[0])
