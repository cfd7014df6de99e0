"""`verify explain`: where the error budget of a problem comes from, and where a failure does."""

from __future__ import annotations

from typing import Annotated

import typer

from ....specs.rule import RULES
from ...cases.target_names import OWN
from ...properties import NAMES as PROPERTIES
from ...report.text import details, headline, print_shares
from ..options import Device, TargetOption, kernels_of, known, prepare, stderr, stdout, usage


def explain(
    token: Annotated[str, typer.Argument(help="A replay token, or a problem token for the first kernel.")],
    target: TargetOption = OWN,
) -> None:
    """Print the error budget of a problem, output by output and rounding site by site.

    For a replay token that fails, also name the first stage at fault and explain the failure.
    """
    prepare(Device.interpreter)

    from ....results.files.calibration import tau
    from ...calibration.explain import explain as shares_of
    from ...cases.replay import Replay
    from ...cases.workload import SLOW, check_problem, updates
    from ...properties import load
    from ...run import plan, runner

    kernels = kernels_of(target)
    try:
        wanted = Replay.parse(token if "@" in token else f"error@{next(iter(kernels))}[-]@{token}")
        known("kernel", [wanted.kernel], kernels)
        known("property", [wanted.prop], PROPERTIES)
        known("rule", [wanted.case.problem.rule.name], RULES)
        check_problem(wanted.case.problem)
        accepted = kernels[wanted.kernel].accepts(wanted.case.problem)
        if accepted is not True:
            usage(f"{wanted.kernel} does not take {wanted.case.problem.token}: {accepted or 'it gives no reason'}")
        if updates(wanted.case.problem) > SLOW:
            stderr.print("a large problem, computed once for every rounding site: this takes minutes", soft_wrap=True)
        shares, threshold = shares_of(kernels[wanted.kernel], wanted.case), tau()
    except ValueError as error:
        usage(str(error))
    print_shares(stdout, shares, threshold)
    if "@" not in token or not plan.runs_on(load(wanted.prop), "interpreter"):
        return
    for verdict in runner.replay([(target, wanted)], "interpreter", threshold):
        stdout.print(headline(verdict), soft_wrap=True, markup=False)
        for line in details(verdict) if verdict.counterexample else verdict.notes:
            stdout.print(f"  {line}", soft_wrap=True, markup=False)
