"""How Megatron-LM chooses where its policy is "pinned", after its `selection.py`, `table.py`, `interception.py`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from triton.runtime.autotuner import Autotuner

from deltaproof.autotune.targets.call import siblings
from deltaproof.verify.targets.calls import make, of_words
from deltaproof.verify.targets.tuners import launches_noted

Choice = tuple[str, tuple[Any, ...] | None, dict[str, Any] | None]
"""A kernel, the key that Triton makes of its call, and the configuration that is launched; None for a miss."""


def choices(target: str, calls: tuple[str, ...], folder: str) -> list[Choice]:
    """What is chosen for every call of a target, from a folder of tables. For a process that pretends to have a GPU."""
    major, minor = torch.cuda.get_device_capability()
    path = Path(folder) / f"sm{major}{minor}.json"
    kernels = json.loads(path.read_text())["kernels"] if path.is_file() else {}
    original, found = Autotuner.run, []

    def policy_run(self: Any, *args: Any, **kwargs: Any) -> None:
        if len(self.configs) <= 1:
            return original(self, *args, **kwargs)
        self.nargs = dict(zip(self.arg_names, args, strict=False))
        offered, candidates = self.prune_configs(kwargs), self.configs
        chosen = lookup(kernels, self, tuning_key(self, args, kwargs), offered)
        found.append((self.base_fn.__name__, triton_key(self, args, kwargs), chosen and config_data(chosen)))
        self.configs = [chosen or offered[0]]
        try:
            return original(self, *args, **kwargs)
        finally:
            self.configs = candidates

    with mock.patch.object(Autotuner, "run", policy_run), launches_noted(lambda launch: None):
        for call in (of_words(target, words) for words in calls):
            for one in (call, *siblings(call)):
                make(one)
    return found


def lookup(kernels: dict[str, Any], tuner: Any, key: str, candidates: list[Any]) -> Any:
    """By the qualified name and then the bare one, as newer versions do; older ones know the bare one alone."""
    for name in (f"{tuner.base_fn.__module__}.{tuner.base_fn.__name__}", tuner.base_fn.__name__):
        entries = kernels.get(name, {})
        if wanted := entries.get(key) or entries.get("*"):
            wanted = {"num_ctas": 1, "maxnreg": None, "ir_override": None, **wanted}
            return next((config for config in candidates if config_data(config) == wanted), None)
    return None


def tuning_key(tuner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    named = dict(zip(tuner.arg_names, args, strict=False))
    named.update(kwargs)
    parts = [f"{name}={named[name]}" for name in tuner.keys if name in named]
    parts.extend(str(value.dtype) for value in named.values() if hasattr(value, "dtype"))
    return "|".join(parts)


def config_data(config: Any) -> dict[str, Any]:
    return {
        "kwargs": dict(config.kwargs),
        "num_warps": config.num_warps,
        "num_stages": config.num_stages,
        "num_ctas": config.num_ctas,
        "maxnreg": config.maxnreg,
        "ir_override": config.ir_override,
    }


def triton_key(tuner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
    named = dict(zip(tuner.arg_names, args, strict=False)) | kwargs
    named = {name: value for name, value in named.items() if name in tuner.arg_names}
    dtypes = [str(value.dtype) for value in named.values() if hasattr(value, "dtype")]
    return (*(named[name] for name in tuner.keys if name in named), *dtypes)
