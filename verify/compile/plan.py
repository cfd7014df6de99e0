"""The work of `verify compile`: calls of kernels with their configuration."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from itertools import product
from typing import Any

from ...kernels.configs.launch_config import LaunchConfig, kernel_of
from ...kernels.configs.space import CONSTRAINTS, GROUPS, OP_STAGES, StageSpace, op_stages
from ...kernels.registry import KERNELS
from ...results.schema.default import default_config
from ...results.schema.table import EVERYWHERE
from ...results.serve.search_path import find_tables
from ...specs.gpus import Architecture
from ...specs.problem import DIMS, DTYPES, Problem
from ...specs.rule import RULES

FIRST_STAGE = "first_stage"
"""The optional first stage, normalisation and activation: no kernel of its own, and nothing in it is tuned."""
GROUPED_KERNEL = "chunk_fwd/grouped"
_IN_GROUPS: dict[str, Any] = {"variant": "packed", "group": GROUPS[0]}
MAIN_RULE, MAIN_DTYPE, MAIN_DIM = "gdn2", "bf16", 128
OTHERS = (("fp16", 64), ("fp32", 256))


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Subject:
    """Calls that share their programs: kernel, rule, element type and head dimensions.

    kernel: ours, or somebody's "module:function"; rule: "" for one without arguments, which has a call of its own.
    """

    kernel: str
    rule: str
    dtype: str
    K: int
    V: int

    def __str__(self) -> str:
        return f"{self.kernel} {self.rule} {self.dtype} K={self.K} V={self.V}" if self.rule else self.kernel

    @property
    def foreign(self) -> bool:
        return ":" in self.kernel

    @property
    def op(self) -> str:
        """The name of its operator in tables."""
        return self.kernel.partition("/")[0]


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Piece:
    """A call to compile: all its launches, or those of one stage.

    config: a token. why: "default", "table", "named", "selectable"; of somebody else's, "offered".
    """

    subject: Subject
    config: str
    stage: str = ""
    why: str = "default"

    def __str__(self) -> str:
        return f"{self.subject} {self.config}".rstrip()


def kernel_names(patterns: Iterable[str]) -> list[str]:
    """Triton kernels, and the first stage, that any pattern selects. Raises ValueError for one that selects none."""
    known = [*(name for name, kernel in KERNELS.items() if kernel.needs_triton), FIRST_STAGE]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in known):
            raise ValueError(f"no Triton kernel matches {pattern!r}; known: {', '.join(known)}")
    return [name for name in known if any(fnmatchcase(name, pattern) for pattern in patterns)]


def subjects(
    kernels: Iterable[str], rules: Sequence[str], dtypes: Sequence[str] | None, dims: Sequence[int] | None
) -> list[Subject]:
    """Every combination of the names given. Where neither dtypes nor dimensions are given, a cover of all there are.

    The cover has every rule in the main dtype and dimension, and the most general rule once in every other dtype and dimension.
    """
    if dtypes is None and dims is None:
        most_general = MAIN_RULE if MAIN_RULE in rules else rules[0]
        cells = dict.fromkeys((rule, MAIN_DTYPE, MAIN_DIM) for rule in rules)
        cells |= dict.fromkeys((most_general, dtype, dim) for dtype, dim in OTHERS)
    else:
        cells = dict.fromkeys(product(rules, dtypes or DTYPES, dims or DIMS))
    return [
        Subject(kernel=kernel, rule=rule, dtype=dtype, K=dim, V=dim) for kernel in kernels for rule, dtype, dim in cells
    ]


def default_pieces(wanted: Iterable[Subject]) -> Iterator[Piece]:
    """The safe default of every subject."""
    for subject in wanted:
        tokens = [default_config("", subject.dtype, subject.K)]
        if subject.kernel in ("chunk_fwd/packed", GROUPED_KERNEL):
            tokens.append(default_config(subject.op, subject.dtype, subject.K))
        if subject.kernel == GROUPED_KERNEL:
            tokens = [replace(LaunchConfig.parse(token), **_IN_GROUPS).token for token in tokens]
        for token in dict.fromkeys(tokens):
            yield Piece(subject=subject, config=token)


def table_pieces(slug: str, wanted: Iterable[Subject]) -> Iterator[Piece]:
    """The configurations that the tables of a GPU serve for these subjects. Raises TableError for a table that is damaged."""
    served: dict[tuple[str, str, str, int, int], set[str]] = {}
    for table in (*find_tables(slug), *find_tables(EVERYWHERE)):
        for entry in table.entries:
            key = entry.key
            kernel = kernel_of(key.op, entry.config)
            served.setdefault((kernel, key.rule, key.dtype, key.K, key.V), set()).add(entry.config)
    for subject in wanted:
        configs = served.get((subject.kernel, subject.rule, subject.dtype, subject.K, subject.V), set())
        for config in sorted(configs - {default_config("", subject.dtype, subject.K)}):
            yield Piece(subject=subject, config=config, why="table")


def named_pieces(configs: Iterable[str], wanted: Iterable[Subject]) -> Iterator[Piece]:
    """Configurations that a person named, for every subject that has any."""
    for subject in wanted:
        if subject.kernel != FIRST_STAGE:
            yield from (Piece(subject=subject, config=config, why="named") for config in configs)


def selectable_pieces(wanted: Iterable[Subject], arch: Architecture) -> Iterator[Piece]:
    """Every configuration that verification draws from, and every point of the tuning space of every stage."""
    for subject in wanted:
        if kernel := KERNELS.get(subject.kernel):
            problem = Problem(rule=RULES[subject.rule], K=subject.K, V=subject.V)
            for config in kernel.configs(problem):
                yield Piece(subject=subject, config=config.token, why="selectable")
        for space in _spaces(subject):
            for setting in space.settings(subject.K, subject.V, subject.dtype, arch.backend, arch.warp):
                if not any(constraint.broken(space, setting) for constraint in CONSTRAINTS):
                    given: dict[str, Any] = {space.tile: setting.tile} if space.tile else {}
                    if subject.kernel == GROUPED_KERNEL:
                        given |= _IN_GROUPS
                    config = LaunchConfig(chunk_size=setting.chunk_size, **given)
                    yield Piece(subject=subject, config=config.token, stage=space.stage, why="selectable")


def _spaces(subject: Subject) -> Iterator[StageSpace]:
    """The stages of a kernel that the tuning space is the space of."""
    for variant in OP_STAGES.get(subject.op, ()):
        if subject.kernel == kernel_of(subject.op, LaunchConfig(variant=variant).token):
            yield from op_stages(subject.op, variant)
    if subject.kernel == GROUPED_KERNEL:
        yield from op_stages(subject.op, "packed", grouped=True)
