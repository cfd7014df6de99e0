"""The launches of somebody else's call, noted instead of made, and Triton's autotuner, told its choice.

Triton's own code makes the key and the launch, in any version.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ...kernels.launches.compile import Launch

Key = tuple[Any, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchChoice:
    """One configuration of a kernel: block sizes, warps, stages, clusters of programs, and the most registers of a thread."""

    kwargs: tuple[tuple[str, int], ...]
    num_warps: int
    num_stages: int
    num_ctas: int
    maxnreg: int | None = None


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

    from ..interpreter.tuned import left

    original = Autotuner.run

    def instead(tuner: Any, *args: Any, **kwargs: Any) -> Any:
        if len(tuner.configs) < 2:
            return original(tuner, *args, **kwargs)
        offered = left(tuner, args, kwargs)

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


def choice_of(config: Any) -> LaunchChoice:
    """A `triton.Config` as a value."""
    return LaunchChoice(
        kwargs=tuple(sorted(config.kwargs.items())), num_warps=config.num_warps, num_stages=config.num_stages,
        num_ctas=config.num_ctas, maxnreg=config.maxnreg,
    )  # fmt: skip


@contextmanager
def launches_noted(note: Callable[[Launch], object]) -> Iterator[None]:
    """Within, launches are noted instead of made."""
    from triton.runtime.jit import JITFunction

    from ...kernels.launches.compile import Launch

    original = JITFunction.run

    def run(self: Any, *args: Any, grid: Any, warmup: bool = False, **kwargs: Any) -> None:
        names = {parameter.name for parameter in self.params}
        arguments = {p.name: p.default for p in self.params if p.has_default}
        arguments |= dict(zip((parameter.name for parameter in self.params), args, strict=False))
        arguments |= {name: value for name, value in kwargs.items() if name in names}
        options = {name: value for name, value in kwargs.items() if name not in names}
        size: Any = grid(arguments) if callable(grid) else grid
        note(Launch(kernel=self, arguments=arguments, grid=tuple(map(int, size)), options=options))

    JITFunction.run = run  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield
    finally:
        JITFunction.run = original
