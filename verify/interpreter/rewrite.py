"""From the source of a jitted function to the Python function that a session runs.

The interpreter's own rewriting is kept (assignments make tensors), with four differences: file and line numbers are
those of the source; the function gets a copy of its module's globals, in which names that were bound to the language
before the session (`exp = tl.exp`) and `range` are replaced, so that no module is touched; a caller may transform
the syntax tree; and masks and branches are marked, so that their coverage is seen.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable
from types import CodeType, FunctionType
from typing import Any
from weakref import WeakKeyDictionary

from triton.runtime import interpreter as triton_interpreter
from triton.runtime.interpreter import ASTTransformer, InterpretedFunction

from .covering import note_branch, note_mask
from .overlay import typed_range
from .records import KERNEL_MARK, TRITON
from .sides import BRANCH, MASK, Marking

Transform = Callable[[str, ast.Module], ast.Module]
"""(qualified name "module:function", syntax tree) -> syntax tree; used to plant faults."""

_code: dict[Any, CodeType] = {}
"""Compiled modules of one function definition each, by the Python function; sources do not change while we run."""

_transformed: WeakKeyDictionary[Transform, dict[Any, CodeType]] = WeakKeyDictionary()
"""The same by transform: one that is used again gives the same code again."""


class Rewriter:
    """Makes the device functions of one session.

    replaced: the replacement of each function of the language, by `id`.
    """

    def __init__(self, replaced: dict[int, Any], transform: Transform | None = None) -> None:
        self._replaced = {**replaced, id(range): typed_range}
        self._transform = transform
        self._functions: dict[Any, Callable[..., Any]] = {}
        self._namespaces: dict[int, dict[str, Any]] = {}

    def __call__(self, kernel: InterpretedFunction) -> Callable[..., Any]:
        """The runnable form of a jitted function. Raises OSError where its source cannot be found."""
        function = self._functions.get(kernel.fn)
        if function is None:
            function = self._functions[kernel.fn] = self._make(kernel.fn)
        return function

    def _make(self, fn: Any) -> Callable[..., Any]:
        namespace = self._namespace(fn)
        scratch: dict[str, Any] = {}
        exec(self._compile(fn), namespace, scratch)
        made: FunctionType = scratch[fn.__name__]
        made.__defaults__, made.__kwdefaults__ = fn.__defaults__, fn.__kwdefaults__
        return made

    def _compile(self, fn: Any) -> CodeType:
        known = _code if self._transform is None else _transformed.setdefault(self._transform, {})
        if fn in known:
            return known[fn]
        tree, path = parse(fn)
        if self._transform is not None:
            tree = self._transform(f"{fn.__module__}:{fn.__qualname__}", tree)
        if not path.startswith(TRITON):
            tree = Marking(fn.__name__, fn.__code__.co_firstlineno).visit(tree)
        tree = ast.fix_missing_locations(ASTTransformer().visit(tree))
        code = known[fn] = compile(tree, path, "exec", dont_inherit=True)
        return code

    def _namespace(self, fn: Any) -> dict[str, Any]:
        namespace = self._namespaces.get(id(fn.__globals__))
        if namespace is None:
            namespace = {name: self._replaced.get(id(value), value) for name, value in fn.__globals__.items()}
            namespace.setdefault("range", typed_range)
            # names that the interpreter's rewriting puts into the code
            for name in ("interpreter_semantic", "_InterpreterComparison"):
                if hasattr(triton_interpreter, name):
                    namespace[name] = getattr(triton_interpreter, name)
            namespace |= {KERNEL_MARK: True, MASK: note_mask, BRANCH: note_branch}
            self._namespaces[id(fn.__globals__)] = namespace
        return namespace


def parse(fn: Any) -> tuple[ast.Module, str]:
    """The definition without decorators, annotations and defaults, at its own line numbers; and its file."""
    lines, first = inspect.getsourcelines(fn)
    tree = ast.parse(textwrap.dedent("".join(lines)))
    ast.increment_lineno(tree, first - 1)
    definition = tree.body[0]
    if not isinstance(definition, ast.FunctionDef):
        raise TypeError(f"{fn.__module__}:{fn.__qualname__} is not a plain function definition")
    definition.decorator_list = []
    definition.returns = None
    arguments = definition.args
    for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
        argument.annotation = None
    # the real defaults are set on the function made; these only keep the syntax
    arguments.defaults = [ast.Constant(None) for _ in arguments.defaults]
    arguments.kw_defaults = [None if default is None else ast.Constant(None) for default in arguments.kw_defaults]
    return tree, inspect.getsourcefile(fn) or "?"
