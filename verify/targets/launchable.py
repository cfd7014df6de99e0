"""The Triton kernels that a target could launch, read from its text: a kernel that no run launches was not judged."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..cases.target_names import OWN
from . import Target

_DECORATORS = ("jit", "autotune", "heuristics")
_OF_A_PROGRAM = "program_id"


def launchable(target: Target) -> tuple[str, ...]:
    """Names, in order. Of our own kernels all; of a function those of its module; of other targets none are known."""
    if target.name == OWN:
        from ...kernels import stages

        return kernels_in(Path(stages.__path__[0]).rglob("*.py"))
    found: set[str] = set()
    functions: list[Any] = [next(iter(getattr(kernel.run, "args", ())), None) for kernel in target.kernels.values()]
    for function in (*functions, *(stage.run for stage in target.stages.values())):
        path = inspect.getsourcefile(inspect.getmodule(function)) if inspect.isfunction(function) else None  # pyright: ignore
        found |= set(kernels_in([Path(path)])) if path else set()
    return tuple(sorted(found))


def kernels_in(files: Iterable[Path]) -> tuple[str, ...]:
    """Functions of these files that Triton compiles and that use their place in a grid."""
    found: set[str] = set()
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and _of_triton(node) and _OF_A_PROGRAM in ast.unparse(node):
                found.add(node.name)
    return tuple(sorted(found))


def _of_triton(node: ast.FunctionDef) -> bool:
    called = (item.func if isinstance(item, ast.Call) else item for item in node.decorator_list)
    return any(ast.unparse(item).rpartition(".")[2] in _DECORATORS for item in called)
