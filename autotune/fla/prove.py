"""The task of the processes that pretend: a folder of configurations, tried by FLA's own loader."""

from __future__ import annotations

from typing import Any

from ...verify.compile.fake_device import Benchmarked
from ...verify.targets.tuners import launches_noted
from .calls import FlaCall, make


def prove_call(call: FlaCall) -> tuple[list[str], list[str]]:
    """Run a call through FLA's own loader and Triton's own tuner, up to the launches: (kernels found, kernels not found).

    The process must have been told of the folder (`installed.pretend`); a kernel is not found if it would be benchmarked.
    """
    from importlib import import_module

    cache = import_module("fla.ops.utils.cache")
    original = cache.CachedAutotuner.run
    found: list[str] = []
    missing: list[str] = []

    def run(self: Any, *args: Any, **kwargs: Any) -> None:
        if len(self.configs) < 2:
            original(self, *args, **kwargs)
            return
        try:
            original(self, *args, **kwargs)
            found.append(self.kernel_name)
        except Benchmarked:
            missing.append(self.kernel_name)

    cache.CachedAutotuner.run = run
    try:
        with launches_noted(lambda launch: None):
            make(call)
    finally:
        cache.CachedAutotuner.run = original
    return found, missing
