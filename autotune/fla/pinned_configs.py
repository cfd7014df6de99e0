"""Calls of FLA's ops in which every autotuned kernel runs in the configuration that is to be judged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import Any

from ..foreign.questions import Site

Kwargs = tuple[tuple[str, int], ...]
"""Block sizes of a configuration, sorted by name."""


@dataclass(slots=True, kw_only=True)
class PinnedConfigs:
    """The kernels that have run in the configurations chosen for them."""

    reached: set[Site] = field(default_factory=set)
    _keys: dict[tuple[str, Any], int] = field(default_factory=dict)

    def around(self, kernel: Any) -> Any:
        """The kernel (of `verify.targets.fla`), whose launches are counted anew with every forward pass."""

        def run(**call: Any) -> Any:
            self._keys.clear()
            return kernel.run(**call)

        return replace(kernel, run=run)

    def site(self, kernel: str, key: tuple[Any, ...]) -> Site:
        """The place of a launch: one for each kernel and key, in the order in which they first come."""
        return kernel, self._keys.setdefault((kernel, key), len(self._keys))


@contextmanager
def pinned_configs(choices: Mapping[Site, Kwargs]) -> Iterator[PinnedConfigs]:
    """Within, FLA's autotuned kernels run with these block sizes, and nothing is looked up or benchmarked.

    A launch for which there is no choice, or one that FLA does not offer there, raises LookupError: another configuration in its
    place would say nothing about the choices.
    """
    cache = import_module("fla.ops.utils.cache")
    original = cache.CachedAutotuner.run
    state = PinnedConfigs()

    def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        offered = self.configs
        if len(offered) < 2:
            return original(self, *args, **kwargs)
        site = state.site(
            self.kernel_name, cache.AutotuneKey.build(self.arg_names, self.keys, args, kwargs).autotune_key
        )
        if site not in choices:
            raise LookupError(f"{site[0]} is launched where no configuration was chosen (launch {site[1]})")
        wanted = dict(choices[site])
        same = [config for config in offered if config.kwargs == wanted]
        if not same:
            raise LookupError(f"{site[0]}: {wanted} is not among the configurations that FLA offers")
        self.configs = same[:1]
        try:
            done = original(self, *args, **kwargs)
        finally:
            self.configs = offered
        state.reached.add(site)
        return done

    cache.CachedAutotuner.run = run
    try:
        yield state
    finally:
        cache.CachedAutotuner.run = original
