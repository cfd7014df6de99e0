"""Triton's autotuner, told its choice: its own code makes the key and the launch, in any version."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ..foreign.launches import LaunchChoice, TunedKernel, launches_noted
from .call import TargetCall, make

if TYPE_CHECKING:
    from ...kernels.launches.compile import Launch

Site = tuple[str, int]
"""An autotuned kernel of a call, and which of the keys it is launched under, in their order."""
Key = tuple[Any, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A call of an autotuned kernel. arguments: by name. offered: configurations. launch: one of these, which gives the key."""

    tuner: Any
    arguments: Mapping[str, Any]
    offered: list[Any]
    launch: Callable[[Any], Key]

    @property
    def kernel(self) -> str:
        return self.tuner.base_fn.__name__

    def key(self) -> Key:
        """Of a launch that is not made."""
        with launches_noted(lambda launch: None):
            return self.launch(self.offered[0])


Run = Callable[[Asked], Any]


class _Chosen(dict[Any, Any]):
    """A tuner's cache in which every key has this configuration, and which knows the key that was asked for."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config, self.key = config, ()

    def __contains__(self, key: Any) -> bool:
        self.key = key
        return True

    def __getitem__(self, key: Any) -> Any:
        return self.config


@contextmanager
def tuners_ask(run: Run) -> Iterator[None]:
    """Within, `run` decides the launches of autotuned kernels; those with one configuration launch it."""
    from triton.runtime.autotuner import Autotuner

    original = Autotuner.run

    def instead(tuner: Any, *args: Any, **kwargs: Any) -> Any:
        if len(tuner.configs) < 2:
            return original(tuner, *args, **kwargs)
        tuner.nargs = dict(zip(tuner.arg_names, args, strict=False))
        offered = list(tuner.prune_configs(kwargs))

        def launch(config: Any) -> Key:
            before, tuner.cache = tuner.cache, _Chosen(config)
            try:
                original(tuner, *args, **kwargs)
                return tuple(tuner.cache.key)
            finally:
                tuner.cache = before

        arguments = dict(zip(tuner.arg_names, args, strict=False)) | kwargs
        return run(Asked(tuner=tuner, arguments=arguments, offered=offered, launch=launch))

    Autotuner.run = instead  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield
    finally:
        Autotuner.run = original


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


def choice_of(config: Any) -> LaunchChoice:
    """A `triton.Config` as a value."""
    return LaunchChoice(
        kwargs=tuple(sorted(config.kwargs.items())), num_warps=config.num_warps, num_stages=config.num_stages,
        num_ctas=config.num_ctas, maxnreg=config.maxnreg,
    )  # fmt: skip


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
