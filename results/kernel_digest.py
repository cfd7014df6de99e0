"""A digest of the kernel sources per op: an entry made for other kernels is stale, and is never served.

`kernels.json` keeps the digests that the sources had when they were last looked at, for where no sources are at hand,
and so that unchanged ones need not be parsed: `python -m deltaproof.results.kernel_digest` writes it anew.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from .atomic import replace
from .packaged import packaged
from .strict import DIGEST, Fields, TableError, parse

SCHEMA = 1

ENTRY_POINTS = {
    "chunk_fwd": ("staged.py", "stages/packed.py", "stages/fused.py", "stages/normalise.py", "stages/activate.py"),
    "chunk_train": ("staged.py", "stages/normalise.py", "stages/activate.py"),
    "recurrent": ("stages/tokens.py", "stages/pool.py", "stages/normalise.py", "stages/activate.py"),
}
"""Per op, the files in `kernels/` that launch; what these import from there counts too. Wrappers around them do not."""

_SOURCES = Path(__file__).parent.parent / "kernels"
_STORED = "kernels.json"


@cache
def kernel_digests() -> dict[str, str]:
    """The digest of every op's kernels, as they are now. Raises TableError if a source is missing or is not Python."""
    stored = Fields(parse(packaged(_STORED).read_text(encoding="utf-8"), _STORED), _STORED)
    if stored.whole("schema") != SCHEMA:
        raise TableError(f"{_STORED}: field 'schema' is not {SCHEMA}")
    files, digests = stored.object("files"), stored.object("digests")
    stored.end()
    unchanged = all(files.text(name, DIGEST) == _file_digest(_SOURCES / name) for name in files.names)
    if unchanged or not _SOURCES.is_dir():
        return {op: digests.text(op, DIGEST) for op in ENTRY_POINTS}
    return {op: digest_sources(_SOURCES, names) for op, names in ENTRY_POINTS.items()}


def digest_sources(folder: Path, names: Iterable[str]) -> str:
    """The digest of these files of `folder` and of whatever they import from it: 16 hexadecimal digits.

    Comments, docstrings and layout do not count. Raises TableError.
    """
    trees = source_trees(folder, names)
    canonical = json.dumps([[name, _canonical(tree)] for name, tree in sorted(trees.items())])
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def source_trees(folder: Path, names: Iterable[str]) -> dict[str, ast.Module]:
    """These files and everything that they reach by relative imports within `folder`, parsed, by path.

    Raises TableError.
    """
    trees: dict[str, ast.Module] = {}
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in trees:
            try:
                trees[name] = ast.parse((folder / name).read_text(encoding="utf-8"))
            except (OSError, ValueError, SyntaxError) as error:
                raise TableError(f"{folder / name}: cannot be digested: {error}") from None
            waiting += _imports(folder, name, trees[name])
    return trees


def write_stored() -> None:
    """Bring `kernels.json` up to date with the sources."""
    names = sorted({name for entry in ENTRY_POINTS.values() for name in source_trees(_SOURCES, entry)})
    content = {
        "schema": SCHEMA,
        "digests": {op: digest_sources(_SOURCES, entry) for op, entry in ENTRY_POINTS.items()},
        "files": {name: _file_digest(_SOURCES / name) for name in names},
    }
    replace(Path(__file__).with_name(_STORED), json.dumps(content, indent=1) + "\n")


def _imports(folder: Path, name: str, tree: ast.Module) -> list[str]:
    """The files of `folder` that a module of it imports, wherever in the module that is written."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            depth = name.count("/") + 1 - node.level
            if depth >= 0:
                package = [*name.split("/")[:depth], *(node.module or "").split(".")]
                base = "/".join(part for part in package if part)
                inside = [f"{base}/{alias.name}.py".lstrip("/") for alias in node.names]
                # A package runs its own __init__ first; that of `kernels` itself only gathers the public names.
                starts = [f"{'/'.join(package[:end])}/__init__.py" for end in range(1, len(package) + 1) if package[0]]
                found += [candidate for candidate in (f"{base}.py", *inside, *starts) if (folder / candidate).is_file()]
    return found


def _canonical(node: Any) -> Any:
    """A syntax tree as JSON, without docstrings and without what Python versions write differently."""
    if isinstance(node, list):
        return [_canonical(item) for item in node if not _is_docstring(item)]
    if isinstance(node, ast.AST):
        parts = [(name, value) for name, value in ast.iter_fields(node) if name not in ("kind", "type_comment")]
        return [type(node).__name__, *([name, _canonical(value)] for name, value in parts if value not in (None, []))]
    return repr(node)


def _is_docstring(node: Any) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _file_digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    except OSError:
        return ""


if __name__ == "__main__":
    write_stored()
