"""The gate without a GPU: the arithmetic that a configuration stands for, judged in the interpreter.

Chunk size, solver and variant change what is computed; tiles change only what is read when, which the interpreter sees too.
Warps, pipelining and the compiler it cannot see: the gate on the device is still owed, and the entry says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..kernels.config import LaunchConfig, kernel_of
from .pool import Workers

if TYPE_CHECKING:
    from ..verify.case import Case

SECONDS = 600.0
"""After which a gate counts as hanging."""

REGIMES = (
    "ordinary", "trained_gates", "strong", "forget_spike", "reset_inf", "collinear", "identical_keys", "erase_two", "growth",
    "long_keys", "mixed",
)  # fmt: skip
"""Hard inputs; a rule meets those that it has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Do these configurations, which share variant, chunk size and solver, compute what the rule says in this dtype?"""

    op: str
    rule: str
    dtype: str
    configs: tuple[LaunchConfig, ...]

    @property
    def head(self) -> str:
        """Variant, chunk size and solver, as a token: what the verdict is about."""
        first = self.configs[0]
        return LaunchConfig(variant=first.variant, chunk_size=first.chunk_size, solver=first.solver).token

    @property
    def kernel(self) -> str:
        """Its name in `kernels.KERNELS`."""
        return kernel_of(self.op, self.head)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """held: every case passed. detail: what was judged, or the first failure with the token that replays it."""

    question: Question
    held: bool
    detail: str


def questions(configs: Iterable[tuple[str, str, str, LaunchConfig]]) -> list[Question]:
    """Questions for (op, rule, dtype, configuration)s, one for each variant, chunk size and solver, sorted."""
    grouped: dict[tuple[str, ...], set[LaunchConfig]] = {}
    for op, rule, dtype, config in configs:
        head = Question(op=op, rule=rule, dtype=dtype, configs=(config,)).head
        grouped.setdefault((op, rule, dtype, head), set()).add(config)
    return [
        Question(op=op, rule=rule, dtype=dtype, configs=tuple(sorted(some, key=lambda config: config.token)))
        for (op, rule, dtype, _), some in sorted(grouped.items())
    ]


def ask(some: Sequence[Question], jobs: int, timeout: float = SECONDS) -> Iterator[Answer]:
    """Answers, as they are found, from processes that may crash or hang; either is a failure."""
    with Workers(jobs, start, interpret=True) as workers:
        for index, result in workers.run(judge, [(question,) for question in some], timeout):
            if isinstance(result, str):
                result = Answer(question=some[index], held=False, detail=f"{result} in the interpreter")
            yield result


def start() -> None:
    """Prepare a process to judge."""
    import torch

    torch.set_num_threads(1)


def judge(question: Question) -> Answer:
    """Equality with the recurrence, addresses, and the error budget in hard regimes; up to the first failure."""
    return judge_on(question, "cpu")


def judge_on(question: Question, device: str) -> Answer:
    """The same on "cpu", in the interpreter, or on "cuda", where what the compiled kernels can show is judged instead."""
    from ..kernels import KERNELS as OURS
    from ..results.calibration import tau
    from ..verify.case import Replay
    from ..verify.check import judge_case
    from ..verify.harness import Harness
    from ..verify.properties import load

    name = question.kernel
    harness = Harness(kernel=OURS[name], kernels=OURS, tau=tau(), device=device)
    counts: dict[str, int] = {}
    worst = 0.0
    for prop, case in _cases(question, device):
        outcome = judge_case(load(prop), case, harness)
        replay = Replay(prop=prop, kernel=name, case=case).token
        if outcome.status != "held":
            return Answer(question=question, held=False, detail=f"{outcome.status}: {outcome.message} in {replay}")
        counts[prop] = counts.get(prop, 0) + 1
        worst = max(worst, outcome.ratio or 0.0)
    judged = ", ".join(f"{prop} {count}" for prop, count in counts.items())
    return Answer(question=question, held=True, detail=f"{judged}; worst error {worst:.3g} of the budget")


def _cases(question: Question, device: str) -> Iterator[tuple[str, Case]]:
    """(property, case): two chunks and a tail, head dimensions off every block, grouped heads; configurations in turn."""
    from ..specs.problem import Problem
    from ..specs.rule import RULES
    from ..verify.case import Case
    from ..verify.strategies import regimes_of

    rule, chunk = RULES[question.rule], question.configs[0].chunk_size
    regimes = [name for name in REGIMES if name in regimes_of(rule)]
    shape = {"rule": rule, "H": 1, "HV": 2, "K": 40, "V": 24}
    packed = (0, 1, chunk, chunk + 3)
    long = Problem(**shape, T=2 * chunk + 1)
    ragged = Problem(**shape, dtype=question.dtype, T=sum(packed), lengths=packed)  # pyright: ignore[reportArgumentType]
    here = (
        [("equality", long), ("equality", replace(ragged, dtype="fp32")), ("memory", ragged)]
        if device == "cpu"
        else [("determinism", ragged), ("determinism", replace(long, dtype=question.dtype))]
    )
    hard = [replace(long, dtype=question.dtype, T=chunk + 5, regime=name) for name in regimes]
    asked = [*here, *(("error", problem) for problem in hard)]
    for index, (prop, problem) in enumerate(asked):
        yield prop, Case(problem=problem, config=question.configs[index % len(question.configs)])
