"""The gate: is a configuration right? In the interpreter before it is served untimed, on the device before it is timed.

Variant, chunk size, groups and solver change the arithmetic; tiles change the order of loads and stores. The interpreter sees
both, of groups in groups of two chunks, which are the same programs. Warps, pipelining and the compiler it cannot see: the
on-device gate stays pending, and the entry says so.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ...kernels.configs.launch_config import LaunchConfig, kernel_of
from ...verify.process.pool import Workers, one_thread
from .asking import answers

if TYPE_CHECKING:
    from ...specs.problem import Problem
    from ...verify.cases.replay import Case
    from ..space.points import Family

SECONDS = 600.0
"""After which a gate counts as hanging."""

REGIMES = (
    "ordinary", "trained_gates", "strong", "forget_spike", "reset_inf", "collinear", "identical_keys", "erase_two", "growth",
    "long_keys", "mixed",
)  # fmt: skip
"""Hard inputs; a rule meets those that it has."""


Subject = tuple[str, str, str, int, int, str]
"""op, rule, element type, K, V and a configuration's token: the subject of a verdict. K and V are 0 for all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GateQuestion:
    """Are the results of these configurations right?

    With K = V = 0: do they, which share variant, chunk size, group and solver, compute the rule in this dtype?
    With the head dimensions of a call: does the one configuration that will be served to it reach every element, and no other?
    """

    op: str
    rule: str
    dtype: str
    K: int = 0
    V: int = 0
    configs: tuple[LaunchConfig, ...]

    @property
    def token(self) -> str:
        """The token of the configuration; of variant, chunk size, group and solver alone where the question is about those."""
        first = self.configs[0]
        if self.K:
            return first.token
        return LaunchConfig(
            variant=first.variant, chunk_size=first.chunk_size, group=first.group, solver=first.solver
        ).token

    @property
    def judged(self) -> tuple[LaunchConfig, ...]:
        """The configurations as they are run here."""
        return tuple(config.shortest for config in self.configs)

    @property
    def subject(self) -> Subject:
        return self.op, self.rule, self.dtype, self.K, self.V, self.token

    @property
    def kernel(self) -> str:
        """Its name in `kernels.KERNELS`."""
        return kernel_of(self.op, self.token)


@dataclass(frozen=True, slots=True, kw_only=True)
class GateAnswer:
    """held: every case passed. detail: the cases judged, or the first failure with the token that replays it.

    final: it will be the same the next time; False where judging crashed, hung or was not possible.
    """

    question: GateQuestion
    held: bool
    detail: str
    final: bool = True


def sources() -> str:
    """Digest of all that an answer depends on besides the question: sources, this file, their interpreter, and the threshold."""
    from ...results.files.calibration import tau
    from ...verify.run.cache import source_digest
    from ...verify.verdicts.document import installed_version

    tools = map(installed_version, ("triton", "numpy"))
    words = (source_digest("autotune/gates/interpreter.py"), *tools, repr(tau()))
    return hashlib.sha256("\0".join(words).encode()).hexdigest()


def questions(served: Iterable[tuple[Family, LaunchConfig]]) -> list[GateQuestion]:
    """The questions about configurations that are to be served: of each as it stands, and of the arithmetic that some share."""
    placed, shared = set[GateQuestion](), dict[Subject, set[LaunchConfig]]()
    for family, config in served:
        arithmetic, own = asked_of(family, config)
        placed.add(own)
        shared.setdefault(arithmetic.subject, set()).add(config)
    return [
        *(
            GateQuestion(op=op, rule=rule, dtype=dtype, configs=tuple(sorted(some, key=lambda config: config.token)))
            for (op, rule, dtype, *_), some in sorted(shared.items())
        ),
        *sorted(placed, key=lambda question: question.subject),
    ]


def asked_of(family: Family, config: LaunchConfig) -> tuple[GateQuestion, GateQuestion]:
    """About its arithmetic, and about the configuration as it stands."""
    about = {"op": family.op, "rule": family.rule, "dtype": family.dtype, "configs": (config,)}
    return GateQuestion(**about), GateQuestion(**about, K=family.K, V=family.V)


def ask(some: Sequence[GateQuestion], jobs: int, timeout: float = SECONDS) -> Iterator[GateAnswer]:
    """Answers, as they are found, from processes that may crash or hang; either is a failure."""
    with Workers(jobs, one_thread, interpret=True) as workers:
        yield from answers(judge, some, workers, _lost, timeout)


def _lost(question: GateQuestion, ended: str) -> GateAnswer:
    return GateAnswer(question=question, held=False, detail=f"{ended} in the interpreter", final=False)


def judge(question: GateQuestion) -> GateAnswer:
    """Judge in the interpreter, up to the first failure."""
    return _judge(question, "cpu", _arithmetic(question) if not question.K else _placement(question))


def judge_on_device(question: GateQuestion) -> GateAnswer:
    """Judge as compiled, for the head dimensions of the question, on the GPU of this process."""
    return _judge(question, "cuda", _compiled(question))


def _judge(question: GateQuestion, device: str, cases: Iterable[tuple[str, Case]]) -> GateAnswer:
    from ...kernels import KERNELS as OURS
    from ...results.files.calibration import tau
    from ...verify.cases.replay import Replay
    from ...verify.execution.harness import Harness
    from ...verify.properties import load
    from ...verify.run.judge import judge_case

    name = question.kernel
    harness = Harness(kernel=OURS[name], kernels=OURS, tau=tau(), device=device)
    counts: dict[str, int] = {}
    worst = 0.0
    for prop, case in cases:
        outcome = judge_case(load(prop), case, harness)
        replay = Replay(prop=prop, kernel=name, case=case).token
        if outcome.status != "held":
            detail = f"{outcome.status}: {outcome.message} in {replay}"
            return GateAnswer(question=question, held=False, detail=detail, final=outcome.status != "error")
        counts[prop] = counts.get(prop, 0) + 1
        worst = max(worst, outcome.ratio or 0.0)
    judged = ", ".join(f"{prop} {count}" for prop, count in counts.items())
    rounded = f"; worst error {worst:.3g} of the budget" if "error" in counts else ""
    return GateAnswer(question=question, held=True, detail=judged + rounded)


def _arithmetic(question: GateQuestion) -> Iterator[tuple[str, Case]]:
    """Equality over two chunks and a tail, and the error budget in hard regimes; configurations in turn."""
    from ...verify.cases.replay import Case

    problem = _problem(question, T=2 * question.judged[0].run_tokens + 1)
    asked = [("equality", replace(problem, dtype="fp32")), *(("error", one) for one in _hard(question))]
    for index, (prop, one) in enumerate(asked):
        yield prop, Case(problem=one, config=question.judged[index % len(question.judged)])


def _placement(question: GateQuestion) -> Iterator[tuple[str, Case]]:
    """Equality, then addresses and races, on a packed batch with an empty sequence, one token, and a chunk and a bit."""
    from ...verify.cases.replay import Case

    (config,) = question.judged
    ragged = replace(_ragged(question), K=question.K, V=question.V)
    yield "equality", Case(problem=replace(ragged, dtype="fp32"), config=config)
    yield "memory", Case(problem=ragged, config=config)


def _compiled(question: GateQuestion) -> Iterator[tuple[str, Case]]:
    """The same bits on every repeat, also with programs on several multiprocessors and many trips through every loop; then
    error budgets, as served and in hard regimes."""
    from ...verify.cases.replay import Case

    (config,) = question.judged
    served = {"K": question.K, "V": question.V}
    many = _problem(question, T=8 * config.run_tokens + 1, B=4, H=4, HV=8, **served)
    near = _problem(question, T=config.run_tokens + 5, **served)
    asked = [
        ("memory", replace(_ragged(question), **served)),
        ("determinism", replace(_ragged(question), **served)),
        ("determinism", many),
        *(("error", replace(near, regime=name)) for name in ("ordinary", "mixed")),
        *(("error", one) for one in _hard(question)),
    ]
    for prop, one in asked:
        yield prop, Case(problem=one, config=config)


def _hard(question: GateQuestion) -> list[Problem]:
    """A chunk and a bit in every hard regime that the rule has."""
    from ...specs.rule import RULES
    from ...verify.cases.strategies import regimes_of

    problem = _problem(question, T=question.judged[0].run_tokens + 5)
    has = regimes_of(RULES[question.rule])
    return [replace(problem, regime=name) for name in REGIMES if name in has]


def _ragged(question: GateQuestion) -> Problem:
    chunk = question.judged[0].run_tokens
    lengths = (0, 1, chunk + 3)
    return _problem(question, T=sum(lengths), lengths=lengths)


def _problem(question: GateQuestion, **settings: Any) -> Problem:
    """Grouped heads, and head dimensions off every block, unless said otherwise."""
    from ...specs.problem import Problem
    from ...specs.rule import RULES

    usual = {"rule": RULES[question.rule], "dtype": question.dtype, "H": 1, "HV": 2, "K": 40, "V": 24}
    return Problem(**usual | settings)
