"""The kernels that are judged. A `Target` is a named set of kernels: ours, a package's, or a module's.

`FORMS` lists the forms of a target's name; `load` finds it. A case that a target declares it does not take is reported as
unsupported, with the reason, and is never counted as checked.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from ...specs.problem import Problem
from ..cases.target_names import FLA, FORMS, GROUP, OWN
from ..verdicts.judgement import is_compiled
from .stage import Stage

if TYPE_CHECKING:
    from ...kernels.registry import Kernel


def _always(kernel: Kernel, problem: Problem) -> bool | str:
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A name and its kernels by id. Kernels have the fields of `deltaproof.kernels.Kernel`, wherever they come from.

    stages: single kernels with references of their own, by name; a target has these or kernels.
    storable: verdicts may be kept, since the store's key covers all sources that the kernels are made of.
    version: the distribution and version that were judged, for reports, where there is one.
    ambiguous: why `--rule` is needed, where a signature does not tell the rule; None where it does.
    not_offered: options of the field, and the functions of the package that do not have them, which is no fault.
    known_good: True, or the reason why a kernel is not known to be right on a problem; calibration keeps to those that are.
    """

    name: str
    kernels: Mapping[str, Kernel]
    stages: Mapping[str, Stage] = field(default_factory=dict)
    storable: bool = False
    version: str | None = None
    ambiguous: str | None = None
    not_offered: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    known_good: Callable[[Any, Problem], bool | str] = _always

    def absences(self) -> list[str]:
        """`not_offered` in words, a line per option."""
        return [f"{option} is not offered by {', '.join(names)}" for option, names in self.not_offered.items() if names]


def load(name: str, device: str = "") -> Target:
    """Import a target. TRITON_INTERPRET must be set, or not, before. device: an architecture, "sm_90", if kernels are to be
    compiled for it without a GPU. Raises ValueError that lists the accepted names.
    """
    from .declared import resolved, split

    name = resolved(name)
    place, words = split(name)
    if name == OWN:
        from ...kernels import KERNELS

        return Target(name=name, kernels=KERNELS, storable=True)
    from .interpreted import prepare

    prepare()
    if name == FLA:
        from . import fla

        return fla.load()
    registered = {entry.name: entry for entry in entry_points(group=GROUP)}
    if name in registered:
        return _target(name, _imported(name, registered[name].load), device)
    if not _is_path(place):
        known = f"; registered: {', '.join(registered)}" if registered else ""
        raise ValueError(f"unknown target {name!r}; accepted: {'; '.join(FORMS)}{known}")
    return _target(name, found(place), device, words)


def found(name: str) -> Any:
    """The object of "module:name", also of a module in the folder where the command is typed. Raises ValueError in one line."""
    if not _is_path(name):
        raise ValueError(f"unknown target {name!r}; accepted: module:function")
    module, _, attribute = name.partition(":")
    if module.endswith(".py"):
        raise ValueError(
            f"target {name!r}: a module is named without .py, here {module.removesuffix('.py')}:{attribute}"
        )
    return _imported(name, lambda: getattr(_module(module), attribute))


def _is_path(name: str) -> bool:
    module, colon, attribute = name.partition(":")
    return bool(colon and attribute) and all(map(str.isidentifier, module.split(".")))


def _module(name: str) -> Any:
    # A module of the folder where the command is typed, as `python -m` finds it; the script `verify` would not.
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    return import_module(name)


def _imported(name: str, find: Callable[[], Any]) -> Any:
    try:
        return find()
    except (ImportError, AttributeError) as error:
        raise ValueError(f"target {name!r} cannot be imported: {error}") from None
    except (Exception, SystemExit) as error:  # any error of somebody else's module
        raise ValueError(f"target {name!r} cannot be imported: {type(error).__name__}: {error}") from error


def _target(name: str, found: Any, device: str, words: Any = ()) -> Target:
    """A target from the object that its name leads to; words: declarations of a function. Raises ValueError."""
    if words and (isinstance(found, Target | Mapping) or not callable(found)):
        raise ValueError(f"target {name!r} is not a function; only functions take declarations in brackets")
    if isinstance(found, Target):
        _check(name, found.kernels)
        return found
    if isinstance(found, Stage):
        return Target(name=name, kernels={}, stages={name.rpartition(":")[2]: found})
    if isinstance(found, Mapping):
        if found and all(isinstance(one, Stage) for one in found.values()):
            return Target(name=name, kernels={}, stages={str(key): one for key, one in found.items()})
        _check(name, found)
        return Target(name=name, kernels=found)
    if callable(found):
        from .function import of_function

        return of_function(name, found, device if is_compiled(device) else "", words)
    raise ValueError(
        f"target {name!r} is of type {type(found).__name__}; accepted: a mapping of names to kernels, a function, a Stage, "
        "or a Target"
    )


def _check(name: str, kernels: Any) -> None:
    """Raises ValueError for anything but a mapping of names to kernels."""
    from ...kernels.registry import Kernel

    if not isinstance(kernels, Mapping) or not kernels:
        raise ValueError(f"target {name!r} holds no kernel; accepted: a mapping of names to kernels")
    for key, kernel in kernels.items():
        if not isinstance(key, str):
            raise ValueError(f"target {name!r} names a kernel {key!r}; accepted: text")
        if not isinstance(kernel, Kernel):
            raise ValueError(
                f"target {name!r}: {key!r} is of type {type(kernel).__name__}; accepted: a Kernel, or what `adapt` makes of "
                "a function"
            )
