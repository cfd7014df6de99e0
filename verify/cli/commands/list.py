"""`verify list`: the kernels and rules that can be judged, and the properties and regimes that judge them."""

from __future__ import annotations

from textwrap import fill

from ....specs.rule import RULES
from ...cases.target_names import OWN
from ...properties import NAMES as PROPERTIES
from ..options import Device, TargetOption, prepare, stdout, usage


def list_everything(target: TargetOption = OWN) -> None:
    """List kernels, rules, systems, properties and input regimes, and the systems that are out of scope."""
    prepare(Device.interpreter)

    from ....specs.inputs.regimes import REGIMES
    from ....specs.relatives import SYSTEMS, UNSUPPORTED
    from ...properties import load
    from ...targets import load as load_target

    try:
        found = load_target(target)
    except ValueError as error:
        usage(str(error))
    _section("kernels", {
        name: "forward and backward" if kernel.differentiable else "forward" for name, kernel in found.kernels.items()
    } | dict.fromkeys(found.stages, "a stage, by a reference of its own"))  # fmt: skip
    for line in found.absences():
        stdout.print(f"  ({line})", soft_wrap=True, markup=False, highlight=False)
    _section(
        "rules", {rule.name: f"decay {rule.decay}, erase {rule.erase}, write {rule.write}" for rule in RULES.values()}
    )
    _section("systems", {name: f"{one.title}: {one.how} [{one.source}]" for name, one in SYSTEMS.items()})
    _section("outside the family", UNSUPPORTED)
    _section("properties", {name: f"{load(name).says} [{load(name).arithmetic}]" for name in PROPERTIES})
    _section("regimes", {name: regime.about for name, regime in REGIMES.items()})


def _section(title: str, lines: dict[str, str]) -> None:
    stdout.print(f"[bold]{title}[/bold]")
    for name, text in lines.items():
        line = f"  {name:24} {text}"
        if stdout.is_terminal:
            line = fill(line, stdout.width, subsequent_indent=" " * 27, break_long_words=False, break_on_hyphens=False)
        stdout.print(line, soft_wrap=True, markup=False)
