"""The work of each stage, counted from its equations: programs, steps, products, elements and bytes.

C rows per chunk, M chunks per sequence, heads = sequences x value heads (key heads are taken as many). A step is the work of one
program per trip over the chunks; stages that are parallel over chunks have one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ...kernels.configs.launch_config import Tile
from ...kernels.configs.space import JOINED_COLUMNS, JOINED_ELEMENTS
from ...specs.rule import RULES, Rule
from ..space.points import Point

FP32 = 4
NEAR = 16
"""Rows whose factors are in the registers of one thread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpCounts:
    """The counts of one stage, per program and step unless said otherwise.

    programs, steps: [sizes], of the whole stage. products: flops on tensor cores; solver: of the solver's products.
    chain: products that wait for each other. exchanges: over the rows. elements: of gated tiles.
    own: bytes that no other program touches, or [sizes] of them; shared: bytes that others read too.
    serial: whether the longest loop of the program goes over the steps. trips: of each of its other loops.
    """

    programs: np.ndarray
    steps: np.ndarray
    products: float
    chain: int
    elements: float
    own: float | np.ndarray
    shared: float = 0.0
    solver: float = 0.0
    exchanges: int = 0
    serial: bool = False
    trips: int = 1


@dataclass(frozen=True, slots=True)
class _Sizes:
    """Letters of the equations for one point, and sizes [sizes] of the calls."""

    point: Point
    tokens: np.ndarray
    heads: np.ndarray
    group: int

    @property
    def rule(self) -> Rule:
        return RULES[self.point.family.rule]

    @property
    def C(self) -> int:
        return self.point.chunk_size

    @property
    def K(self) -> int:
        return self.point.family.K

    @property
    def V(self) -> int:
        return self.point.family.V

    @property
    def levels(self) -> int:
        return self.C.bit_length() - 1

    @property
    def chunks(self) -> np.ndarray:
        return -(-self.tokens // self.C)

    @property
    def runs(self) -> np.ndarray:
        """Runs of chunks that are walked at once, per head: groups, or the whole sequence."""
        return -(-self.chunks // self.group) if self.group else np.ones_like(self.chunks)

    @property
    def steps(self) -> np.ndarray:
        """Chunks that follow one another."""
        return np.minimum(self.chunks, self.group) if self.group else self.chunks

    @property
    def size(self) -> int:
        return FP32 if self.point.family.dtype == "fp32" else 2

    def block(self, size: int) -> int:
        return min(self.point.tile.block, size)

    def blocks(self, size: int) -> int:
        return -(-size // self.point.tile.block)

    @property
    def per_key(self) -> int:
        """Bytes of the decay and erase gates of one row."""
        tie = {"none": 0, "tied": 0, "scalar": 1, "channel": self.K}
        return FP32 * tie[self.rule.decay] + self.size * tie[self.rule.erase]

    @property
    def per_value(self) -> int:
        """Bytes of v and the write gate of one row."""
        return self.size * (self.V + {"tied": 1, "scalar": 1, "channel": self.V}[self.rule.write])

    @property
    def erases(self) -> int:
        return int(self.rule.erase != "none")

    @property
    def gated(self) -> int:
        """Elements per row and key channel that a decay multiplies."""
        return self.K if self.rule.decay == "channel" else 1


def op_counts(point: Point, tokens: np.ndarray, heads: np.ndarray, group: int = 0) -> OpCounts:
    """The counts of a point for calls of these sizes, whose sequences are split into groups of so many chunks, if any."""
    return _COUNTS[point.stage](_Sizes(point, tokens, heads, group))


def _scores(s: _Sizes) -> OpCounts:
    C, K, pairs = s.C, s.K, 1 + s.erases
    by_channel = s.rule.decay == "channel"
    levels = s.levels if by_channel else 1
    # Within 16 rows queries and erase keys meet half of the keys at each of four levels, and queries all once; beyond, all.
    met = NEAR + 4 * NEAR + (s.levels - 4) * C * pairs if by_channel else C * pairs
    return OpCounts(
        programs=s.chunks * s.heads,
        steps=np.ones_like(s.tokens),
        products=2.0 * C * K * met,
        solver=4.0 * C * (3 * NEAR**2 + C**2 * (s.levels - 4)) * s.erases,
        chain=levels * s.blocks(K) + 2 * (s.levels - 1) * s.erases,
        exchanges=levels * s.blocks(K),
        elements=C * s.gated * levels,
        own=C * (2 * K * s.size + s.per_key) + 2 * C * C * s.size,
        trips=s.blocks(K),
    )


def _walk(s: _Sizes, products: float, chain: int, scores: int, own: float, decayed: int) -> OpCounts:
    """A walk over the chunks, one program per head and block of V; every block reads all operands of its products.

    decayed: of queries, erase keys and keys, how many it reads.
    """
    return OpCounts(
        programs=s.heads * s.runs * s.blocks(s.V),
        steps=s.steps,
        products=products,
        chain=chain,
        exchanges=2,
        elements=0.0,
        own=own,
        shared=s.size * s.C * (decayed * s.K + scores * s.C) + FP32 * s.gated,
        serial=True,
    )


def _states(s: _Sizes) -> OpCounts:
    C, K, block = s.C, s.K, s.block(s.V)
    output = s.point.family.op == "chunk_fwd"
    reads = s.per_value / s.V * C * block
    writes = s.size * (C * block if output else C * block + K * block)
    products = 2.0 * C * block * (K * (1 + s.erases + output) + C * (s.erases + output))
    return _walk(s, products, 1 + 2 * s.erases, 1 + output, reads + writes, 1 + s.erases + output)


def _packed_scores(s: _Sizes) -> OpCounts:
    # It leaves the operands of the walk; two more products apply the inverse to them.
    scores = _scores(s)
    return replace(
        scores,
        products=scores.products + 2.0 * s.C * s.C * (s.K + s.C) * s.erases,
        chain=scores.chain + s.erases,
        own=s.C * (2 * s.K * s.size + s.per_key) + _operands(s),
    )


def _operands(s: _Sizes) -> int:
    """Bytes per chunk of the decayed queries, keys and erase keys, of the pairs, and of the chunk's decay."""
    return s.size * s.C * (s.K * (2 + s.erases) + s.C) + FP32 * s.gated


def _packed_walk(s: _Sizes) -> OpCounts:
    # Nothing is gated on the way, and of the two products with scores there is one.
    walk = _states(s)
    products = 2.0 * s.C * s.block(s.V) * (s.K * (2 + s.erases) + s.C)
    # A group begins with a state from memory.
    own = walk.own + FP32 * s.K * s.block(s.V) / s.steps if s.group else walk.own
    return replace(walk, products=products, chain=1 + s.erases, elements=0.0, own=own, shared=float(_operands(s)))


def _group_bounds(s: _Sizes) -> OpCounts:
    # Every group at least has one; how many heads share it, nobody knows here.
    one = np.ones_like(s.tokens)
    return OpCounts(programs=s.runs, steps=one, products=0.0, chain=0, elements=0.0, own=2.0 * FP32)


def _mapped(s: _Sizes) -> int:
    """Columns of [B | M]; of a diagonal M there is one."""
    return s.V + (s.K if s.erases else 1)


def _group_maps(s: _Sizes) -> OpCounts:
    # Outputs are left to the walk; of its columns only V read anything of their own.
    C, K, block = s.C, s.K, s.block(s.V)
    reads = s.per_value / _mapped(s) * C * block
    products = 2.0 * C * block * K * (1 + s.erases)
    walk = _walk(s, products, 1 + s.erases, 0, reads, 1 + s.erases)
    own = reads + FP32 * K * block / s.steps
    return replace(walk, programs=s.heads * s.runs * s.blocks(_mapped(s)), own=own)


def _group_starts(s: _Sizes) -> OpCounts:
    K, more = s.K, _mapped(s) - s.V
    return OpCounts(
        programs=s.heads * -(-s.V // JOINED_COLUMNS),
        steps=s.runs,
        products=2.0 * K * JOINED_COLUMNS * more,
        chain=1 + s.erases,
        exchanges=s.erases,
        elements=float(K * JOINED_COLUMNS),
        own=2.0 * FP32 * K * JOINED_COLUMNS,
        shared=float(FP32 * K * more),
        serial=True,
        trips=-(-K * K // JOINED_ELEMENTS),
    )


def _fused(s: _Sizes) -> OpCounts:
    # Every block of V decays its operands and makes the scores of its chunk anew, and reads none.
    by_key = replace(s.point, tile=Tile())  # its scores cut K as by default, for any tile of V
    walk, scores = _states(s), _scores(replace(s, point=by_key))
    return replace(
        walk,
        products=walk.products + scores.products,
        solver=scores.solver,
        chain=walk.chain + scores.chain,
        exchanges=walk.exchanges + scores.exchanges,
        elements=2.0 * s.C * s.gated + scores.elements,
        shared=s.C * (2 * s.K * s.size + s.per_key),
        trips=scores.trips,
    )


def _state_grads(s: _Sizes) -> OpCounts:
    C, K, block = s.C, s.K, s.block(s.V)
    products = 2.0 * C * block * (K * (2 + s.erases) + C * (1 + s.erases))
    return _walk(s, products, 1 + 2 * s.erases, 2, s.size * block * (2 * C + K), 2 + s.erases)


def _output(s: _Sizes) -> OpCounts:
    C, K, block = s.C, s.K, s.block(s.V)
    return OpCounts(
        programs=s.chunks * s.heads * s.blocks(s.V),
        steps=np.ones_like(s.tokens),
        products=2.0 * C * block * (K + C),
        chain=s.blocks(K) + 1,
        exchanges=s.blocks(K),
        elements=0.0,
        own=s.size * block * (K + 2 * C),
        shared=C * K * s.size + C * C * s.size,
        trips=s.blocks(K),
    )


def _score_grads(s: _Sizes) -> OpCounts:
    C, V = s.C, s.V
    return OpCounts(
        programs=s.chunks * s.heads,
        steps=np.ones_like(s.tokens),
        products=2.0 * C * C * V * (1 + s.erases),
        chain=s.blocks(V),
        elements=float(C * V),
        own=C * (3 * V * s.size + 2 * s.per_value) + 2 * C * C * s.size,
        trips=s.blocks(V),
    )


def _input_grads(s: _Sizes) -> OpCounts:
    C, V, block = s.C, s.V, s.block(s.K)
    pairs = 1 + s.erases
    by_channel = s.rule.decay == "channel"
    # Within 16 rows, at each of four levels, 16 sinks meet the keys and half of these the sinks; beyond, two products a pair.
    met = 4 * 3 * NEAR // 2 + (s.levels - 4) * C * 2 * pairs if by_channel else C * 3 * pairs
    inside = C * block * met
    return OpCounts(
        programs=s.chunks * s.heads * s.blocks(s.K),
        steps=np.ones_like(s.tokens),
        products=2.0 * (C * block * V * (1 + pairs) + inside),
        chain=s.blocks(V) + (3 * s.levels if by_channel else 3),
        exchanges=2 * s.levels if by_channel else 2,
        elements=C * block * (s.levels if by_channel else 1.0) * 3,
        own=block / s.K * C * (4 * s.K * s.size + 2 * s.per_key) + 2 * block * V * s.size,
        shared=s.size * C * (3 * V + 2 * C),
        trips=s.blocks(V),
    )


_COUNTS: dict[str, Callable[[_Sizes], OpCounts]] = {
    "scores": _scores,
    "states": _states,
    "output": _output,
    "state_grads": _state_grads,
    "score_grads": _score_grads,
    "input_grads": _input_grads,
    "packed_scores": _packed_scores,
    "packed_walk": _packed_walk,
    "group_bounds": _group_bounds,
    "group_maps": _group_maps,
    "group_starts": _group_starts,
    "fused": _fused,
}
