"""`verify list`: what there is to judge, and to judge it by."""

from __future__ import annotations

from ...specs.rule import RULES
from ..commandline import Device, TargetOption, kernels_of, prepare, stdout
from ..properties import NAMES as PROPERTIES
from ..targets import OWN


def list_everything(target: TargetOption = OWN) -> None:
    """Kernels, rules, properties and regimes that there are."""
    prepare(Device.interpreter)

    from ...specs.regimes import REGIMES
    from ..properties import load

    _section("kernels", {
        name: "forward and backward" if kernel.differentiable else "forward"
        for name, kernel in kernels_of(target).items()
    })  # fmt: skip
    _section(
        "rules", {rule.name: f"decay {rule.decay}, erase {rule.erase}, write {rule.write}" for rule in RULES.values()}
    )
    _section("properties", {name: f"{load(name).says} [{load(name).arithmetic}]" for name in PROPERTIES})
    _section("regimes", {name: regime.about for name, regime in REGIMES.items()})


def _section(title: str, lines: dict[str, str]) -> None:
    stdout.print(f"[bold]{title}[/bold]")
    for name, text in lines.items():
        stdout.print(f"  {name:20} {text}", soft_wrap=True, markup=False)
