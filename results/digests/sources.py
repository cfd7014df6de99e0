"""Names of Python sources that survive an edit which changes nothing: a comment, a docstring, a local's name, a file's place.

A function counts with all that it reaches in its package: other functions and constants take the place of their names.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

from ..schema.strict import TableError

_FUNCTIONS = ast.FunctionDef, ast.AsyncFunctionDef
_ERASED = frozenset({"kind", "type_comment", "type_params", "lineno", "col_offset", "end_lineno", "end_col_offset"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where an imported name is from: `name` of the module at `path`, or "" for the module itself."""

    path: Path
    name: str


@dataclass(kw_only=True, eq=False)
class Module:
    """One parsed file of a package. Raises TableError if it is missing or is not Python."""

    path: Path

    @cached_property
    def tree(self) -> ast.Module:
        try:
            return ast.parse(self.path.read_text(encoding="utf-8"))
        except SyntaxError as error:
            raise TableError(f"{self.path}:{error.lineno or 1}: not Python: {error.msg}") from None
        except (OSError, ValueError) as error:
            raise TableError(f"{self.path}: cannot be digested: {error}") from None

    @cached_property
    def functions(self) -> dict[str, ast.FunctionDef | ast.AsyncFunctionDef]:
        return {node.name: node for node in self.tree.body if isinstance(node, _FUNCTIONS)}

    @cached_property
    def constants(self) -> dict[str, ast.expr]:
        """The values to which plain assignments bind names of the module."""
        found: dict[str, ast.expr] = {}
        for node in self.tree.body:
            targets = (
                node.targets
                if isinstance(node, ast.Assign)
                else [node.target]
                if isinstance(node, ast.AnnAssign)
                else []
            )
            for target in targets:
                if not isinstance(node, ast.Assign | ast.AnnAssign) or not node.value:
                    continue
                if isinstance(target, ast.Name):
                    found[target.id] = node.value
                elif isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                    pairs = zip(target.elts, node.value.elts, strict=False)
                    found |= {name.id: value for name, value in pairs if isinstance(name, ast.Name)}
        return found

    @cached_property
    def classes(self) -> dict[str, ast.ClassDef]:
        return {node.name: node for node in self.tree.body if isinstance(node, ast.ClassDef)}

    def binds(self, name: str) -> bool:
        """Whether it is defined here, even if it is imported, too."""
        return name in self.functions or name in self.constants or name in self.classes

    @cached_property
    def dotted(self) -> dict[str, str]:
        """Names that stand for something outside the package, with their full names there."""
        found: dict[str, str] = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                found |= {
                    one.asname or one.name.split(".")[0]: one.name if one.asname else one.name.split(".")[0]
                    for one in node.names
                }
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found |= {one.asname or one.name: f"{node.module}.{one.name}" for one in node.names}
        return found

    @cached_property
    def origins(self) -> dict[str, Origin]:
        """Names that are imported from the package itself, wherever in the module that is written."""
        found: dict[str, Origin] = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.ImportFrom) and node.level:
                found |= self.imported(node)
        return found

    def imported(self, node: ast.ImportFrom) -> dict[str, Origin]:
        """Where the names of a relative import are from; those that no file has are left out."""
        found: dict[str, Origin] = {}
        folder = self.path.parent
        for _ in range(node.level - 1):
            folder = folder.parent
        base = folder.joinpath(*(node.module or "").split(".")) if node.module else folder
        for one in node.names:
            inside = _file(base / one.name)
            path, name = (inside, "") if inside else (_file(base), one.name)
            if path:
                found[one.asname or one.name] = Origin(path=path, name=name)
        return found


@dataclass(kw_only=True)
class Sources:
    """Parsed files, each once, and the digests of their definitions."""

    _modules: dict[Path, Module] = field(default_factory=dict)
    _digests: dict[tuple[Path, str], str] = field(default_factory=dict)

    def module(self, path: Path) -> Module:
        path = path.resolve()
        return self._modules.setdefault(path, Module(path=path))

    def digest(self, path: Path, name: str) -> str:
        """Names a function, a constant or a class of a module, with all that it reaches. Raises TableError."""
        module, name = self._defining(self.module(path), name)
        known = module.path, name
        if known not in self._digests:
            self._digests[known] = "itself"  # a recursive definition is named by its start
            self._digests[known] = digest_of(self._canonical(module, name))
        return self._digests[known]

    def module_digests(self, paths: Iterable[Path]) -> list[str]:
        """A name for each of these modules as it is written, without the definitions that it reaches. Raises TableError.

        What one imports of another is told by the text of the module that defines it, so that no file's name counts.
        """
        modules = list(map(self.module, paths))
        texts = {module.path: digest_of(Scope(None, module).form(module.tree.body)) for module in modules}

        def told_by(origin: Origin) -> str:
            module, _ = self._defining(self.module(origin.path), origin.name)
            return texts.get(module.path, "")

        return [digest_of(Scope(None, module, told_by=told_by).form(module.tree.body)) for module in modules]

    def _defining(self, module: Module, name: str) -> tuple[Module, str]:
        """Where a name is defined, and how it is called there: wherever that is, and through however many files it came."""
        while (origin := module.origins.get(name)) is not None and origin.name and not module.binds(name):
            module, name = self.module(origin.path), origin.name
        return module, name

    def files(self, roots: Iterable[Path]) -> list[Path]:
        """These files and all that they reach by relative imports, sorted. Raises TableError."""
        found: set[Path] = set()
        waiting = [path.resolve() for path in roots]
        while waiting:
            path = waiting.pop()
            if path not in found:
                found.add(path)
                waiting += (origin.path.resolve() for origin in self.module(path).origins.values())
        return sorted(found)

    def _canonical(self, module: Module, name: str) -> Any:
        if name in module.functions:
            return Scope(self, module).function(module.functions[name])
        if name in module.constants:
            return Scope(self, module).form(module.constants[name])
        if name in module.classes:
            return Scope(self, module).form(module.classes[name])
        if name in module.origins:
            return ["module", module.origins[name].path.stem]
        return module.dotted.get(name, name)


@dataclass
class Scope:
    """The canonical forms of the definitions of a module.

    sources: where names that are reached are looked up; None if they stand for themselves. locals: their places, in the order
    in which they are bound. told_by: what tells one origin of an imported name from another, if anything does.
    """

    sources: Sources | None
    module: Module
    locals: Mapping[str, int] = field(default_factory=dict)
    told_by: Callable[[Origin], str] = lambda origin: ""

    def function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> Any:
        """A function without its name: decorators, parameters and body, with locals by place."""
        parameters = [one.arg for one in _parameters(node.args)]
        bound = dict.fromkeys([*self.locals, *parameters, *_bound_in(node)])
        inner = replace(self, locals={name: place for place, name in enumerate(bound)})
        decorators = [self._decorator(one, parameters) for one in node.decorator_list]
        arguments = [
            [inner.form(one.annotation)] if one.annotation is not None else [] for one in _parameters(node.args)
        ]
        defaults = inner.form([*node.args.defaults, *node.args.kw_defaults])
        return ["function", decorators, arguments, defaults, inner.form(node.body)]

    def form(self, node: Any) -> Any:
        if isinstance(node, list):
            return _without_order(self.form(item) for item in node if not _is_docstring(item))
        if isinstance(node, _FUNCTIONS):
            return [*self.function(node), ["named", self.locals.get(node.name, node.name)]]
        if isinstance(node, ast.Name):
            return self._name(node.id)
        if isinstance(node, ast.Attribute) and (reached := self._attribute(node)):
            return reached
        if isinstance(node, ast.Call):
            return self._call(node)
        if isinstance(node, ast.ImportFrom) and node.level:
            origins = {name: self.told_by(origin) for name, origin in self.module.imported(node).items()}
            return ["import", *([one.name, one.asname, origins.get(one.asname or one.name)] for one in node.names)]
        if isinstance(node, ast.Import | ast.ImportFrom):
            return ["import", getattr(node, "module", None), *([one.name, one.asname] for one in node.names)]
        if isinstance(node, ast.AST):
            parts = [
                (name, value)
                for name, value in ast.iter_fields(node)
                if name not in _ERASED and value not in (None, [])
            ]
            if isinstance(node, ast.AnnAssign):
                parts = [(name, value) for name, value in parts if name != "simple"]
            return [type(node).__name__, *([name, self.form(value)] for name, value in parts if name != "ctx")]
        return repr(node)

    def _attribute(self, node: ast.Attribute) -> Any:
        """A definition reached through the name of a module of the package, as if it had been imported by its own name."""
        if self.sources is None or not isinstance(node.value, ast.Name) or node.value.id in self.locals:
            return None
        origin = self.module.origins.get(node.value.id)
        if origin is None or origin.name or self.module.binds(node.value.id):
            return None
        return ["reached", self.sources.digest(origin.path, node.attr)]

    def _name(self, name: str) -> Any:
        if name in self.locals:
            return ["local", self.locals[name]]
        module = self.module
        if self.sources is None:
            return ["outside", name]
        if module.binds(name) or name in module.origins:
            return ["reached", self.sources.digest(module.path, name)]
        return ["outside", module.dotted.get(name, name)]

    def _call(self, node: ast.Call) -> Any:
        """A call; keywords of a function that is known by their place in its signature, so that renaming them is nothing."""
        places = self._places(node.func)
        keywords = [[places.get(one.arg or "", one.arg or "**"), self.form(one.value)] for one in node.keywords]
        return ["Call", self.form(node.func), self.form(node.args), sorted(keywords, key=lambda pair: str(pair[0]))]

    def _places(self, function: ast.expr) -> dict[str, str]:
        if self.sources is None or not isinstance(function, ast.Name) or function.id in self.locals:
            return {}
        module, name = self.module, function.id
        while name not in module.functions and name in module.origins and module.origins[name].name:
            module, name = self.sources.module(module.origins[name].path), module.origins[name].name
        if name not in module.functions:
            return {}
        return {one.arg: f"#{place}" for place, one in enumerate(_parameters(module.functions[name].args))}

    def _decorator(self, node: ast.expr, parameters: list[str]) -> Any:
        """A decorator, in which the names of parameters are their places."""
        if not isinstance(node, ast.Call):
            return self.form(node)
        renamed = ast.parse(ast.unparse(node), mode="eval").body
        for inner in ast.walk(renamed):
            if isinstance(inner, ast.Constant) and inner.value in parameters:
                inner.value = f"#{parameters.index(inner.value)}"
        return self.form(renamed)


def digest_of(canonical: Any) -> str:
    """Names a canonical form: 16 hexadecimal digits."""
    return hashlib.sha256(json.dumps(canonical).encode()).hexdigest()[:16]


def _file(base: Path) -> Path | None:
    """The file that a module's path without suffix stands for."""
    for path in (base.with_name(f"{base.name}.py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


def _parameters(arguments: ast.arguments) -> list[ast.arg]:
    extra = [one for one in (arguments.vararg, arguments.kwarg) if one]
    return [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, *extra]


def _bound_in(node: ast.AST) -> Iterator[str]:
    """Names that are bound in a function, in the order in which they are written."""
    for inner in ast.walk(node):
        if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store):
            yield inner.id
        elif isinstance(inner, _FUNCTIONS) and inner is not node:
            yield inner.name
            yield from (one.arg for one in _parameters(inner.args))
        elif isinstance(inner, ast.Lambda):
            yield from (one.arg for one in _parameters(inner.args))


def _without_order(forms: Iterable[Any]) -> list[Any]:
    """With imports that follow each other sorted, which are written in the order of the names of files."""
    found: list[Any] = []
    for imports, some in groupby(forms, key=lambda form: form[:1] == ["import"]):
        run = list(some)
        found += sorted(run, key=str) if imports else run
    return found


def _is_docstring(node: Any) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
