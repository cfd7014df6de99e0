"""Calls that launch nothing: their kernels are compiled into Triton's cache, each by one of the processes that meet it."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import triton
from triton import knobs
from triton.runtime.autotuner import Autotuner
from triton.runtime.jit import JITFunction

OnCompiled = Callable[[str, float, str | None], object]
DONE = "done"


def claim_name(fn: Any, key: str) -> str:
    """Names a kernel, with all that it calls, as it is specialised. fn: what Triton's hooks are given."""
    words = (triton.__version__, fn.module, fn.name, fn.jit_function.cache_key, key)
    return hashlib.sha256("\0".join(words).encode()).hexdigest()[:40]


def is_compiled(claims: Path, name: str) -> bool:
    path = claims / name
    return path.exists() and path.read_text() == DONE


def forget_unfinished(claims: Path) -> None:
    """Give up the claims of processes that are gone."""
    for path in claims.iterdir():
        if path.read_text() != DONE:
            path.unlink()


@contextmanager
def compiling_only(claims: Path, told: OnCompiled) -> Iterator[None]:
    """Within, a launch compiles its kernel if no other process has claimed it in the folder `claims`, and does no more.

    Of an autotuned kernel every configuration is taken. told: of each kernel compiled here its name, the seconds, and why it
    failed, if it did.
    """
    run, tune, hook = JITFunction.run, Autotuner.run, knobs.runtime.jit_cache_hook
    claimed: list[Path] = []

    def pass_over(**launch: Any) -> bool:
        path = claims / claim_name(launch["fn"], launch["key"])
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return True
        claimed.append(path)
        return False

    def compile_one(self: JITFunction, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> None:
        began, failure = time.monotonic(), None
        try:
            run(self, *args, grid=grid, warmup=True, **kwargs)
        except Exception as error:  # Triton's compilers raise anything; a call goes on to its next kernel
            failure = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        if claimed:
            claimed.pop().write_text(DONE)
            told(f"{self.__name__} {_options(kwargs)}", time.monotonic() - began, failure)
        elif failure:
            told(self.__name__, time.monotonic() - began, failure)

    def compile_all(self: Autotuner, *args: Any, **kwargs: Any) -> None:
        self.nargs = dict(zip(self.arg_names, args, strict=False))
        for config in self.prune_configs(kwargs):
            self.fn.run(*args, **kwargs, **config.all_kwargs())
        self.nargs = None

    JITFunction.run, Autotuner.run = compile_one, compile_all  # pyright: ignore[reportAttributeAccessIssue]
    knobs.runtime.jit_cache_hook = pass_over  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield
    finally:
        JITFunction.run, Autotuner.run, knobs.runtime.jit_cache_hook = run, tune, hook


class NotCompiled(Exception):
    """A kernel is not in the cache."""


@contextmanager
def compiled_only(claims: Path) -> Iterator[None]:
    """Within, a launch whose kernel no process has compiled raises NotCompiled: compiling it takes the time of ten others."""
    hook = knobs.runtime.jit_cache_hook

    def refuse(**launch: Any) -> bool:
        name = claim_name(launch["fn"], launch["key"])
        if not is_compiled(claims, name):
            raise NotCompiled(launch["repr"][:200])
        return False

    knobs.runtime.jit_cache_hook = refuse  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield
    finally:
        knobs.runtime.jit_cache_hook = hook


def _options(kwargs: dict[str, Any]) -> str:
    return " ".join(f"{name}={kwargs[name]}" for name in ("num_warps", "num_stages") if name in kwargs)
