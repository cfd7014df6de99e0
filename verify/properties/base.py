"""The definition of a property: one statement that must hold on every case, its arithmetic, and the bugs that it catches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ...kernels.registry import Kernel
from ...specs.problem import Problem
from ..cases.replay import Case
from ..execution.harness import Harness
from ..verdicts.judgement import Arithmetic, Kind
from ..verdicts.outcome import Outcome


def everywhere(kernel: Kernel, problem: Problem) -> str | None:
    """Applies to every kernel and problem."""
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Property:
    """One statement about a kernel.

    says: the statement, one line. kind: the kind of its failures, unless the check itself can tell more.
    catches: the classes of bugs it is there for. check: judges one case.
    applies: why a kernel or problem is outside the statement, or None.
    needs_gradients: only kernels with a backward pass. needs_kernel: False for a statement about the oracle.
    uses_oracle: compares with the oracle, which must have been judged first.
    calls: kernel calls that one check costs, about; the runner draws fewer cases of a dear property.
    on_device: can also be judged on a GPU, without the interpreter.
    as_compiled: can also be judged on programs compiled for a GPU that is not there; ours_as_compiled: of our own kernels alone.
    relatives: also judges the systems of `specs.relatives`, not only the rules.
    pairs: also judged on every pair of options, by profiles that have them.
    styles: judges the ways to make a call, which are part of its cases.
    shapes: names of production shapes (`cases.production`) that it always meets.
    """

    name: str
    says: str
    arithmetic: Arithmetic
    kind: Kind
    catches: tuple[str, ...]
    check: Callable[[Case, Harness], Outcome] = field(repr=False)
    applies: Callable[[Any, Problem], str | None] = field(default=everywhere, repr=False)
    needs_gradients: bool = False
    needs_kernel: bool = True
    uses_oracle: bool = False
    calls: float = 1.0
    on_device: bool = False
    as_compiled: bool = False
    ours_as_compiled: bool = False
    relatives: bool = False
    pairs: bool = False
    styles: bool = False
    shapes: tuple[str, ...] = ()
