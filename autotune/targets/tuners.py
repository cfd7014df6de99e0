"""The tuned kernels of a call, and a call that runs each of them in the configuration that was chosen for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

from ...verify.targets.calls import TargetCall, make
from ...verify.targets.tuners import Asked, Key, LaunchChoice, choice_of, launches_noted, tuners_ask
from ..foreign.launches import TunedKernel
from ..foreign.questions import Site

if TYPE_CHECKING:
    from ...kernels.launches.compile import Launch


@lru_cache(maxsize=64)
def sites(call: TargetCall) -> tuple[TunedKernel, ...]:
    """The tuned kernels of a call, each kernel and key once. For a process that pretends (`fake_device.install`)."""
    found: dict[tuple[str, Key], TunedKernel] = {}
    recorded: list[Launch] = []

    def run(asked: Asked) -> None:
        launches, key = {}, ()
        for config in asked.offered:
            recorded.clear()
            key = asked.launch(config)
            launches[choice_of(config)] = recorded[-1]
        name = asked.kernel
        order = sum(kernel == name for kernel, _ in found)
        found.setdefault((name, key), TunedKernel(kernel=name, order=order, key=key, launches=launches))

    with launches_noted(recorded.append), tuners_ask(run):
        make(call)
    return tuple(found.values())


@dataclass(slots=True, kw_only=True)
class Pinned:
    """Runs every autotuned kernel in the configuration chosen for it. ran: the site of every launch, in order; a kernel
    without a choice, and one that is not offered its choice here, raise LookupError."""

    choices: Mapping[Site, LaunchChoice]
    launched: Callable[[], int]
    ran: list[tuple[Site, int, int]] = field(default_factory=list)
    _orders: dict[tuple[str, Key], int] = field(default_factory=dict)

    def __call__(self, asked: Asked) -> None:
        name = asked.kernel
        known = [order for kernel, order in self.choices if kernel == name]
        if not known:
            raise LookupError(f"{name} is launched, and was not where configurations were enumerated")
        # The key is known after a launch only: where a kernel has several, a first one under no one's eyes would count.
        order = self._order(asked) if len(known) > 1 else known[0]
        wanted = self.choices[name, order]
        same = [config for config in asked.offered if choice_of(config) == wanted]
        if not same:
            raise LookupError(f"{name}: {wanted} is not offered for a call of another size")
        before = self.launched()
        asked.launch(same[0])
        self.ran.append(((name, order), before, self.launched()))

    def _order(self, asked: Asked) -> int:
        known = [order for kernel, order in self.choices if kernel == asked.kernel]
        taken = sum(kernel == asked.kernel for kernel, _ in self._orders)
        order = self._orders.setdefault((asked.kernel, asked.key()), taken)
        return min(order, max(known))
