"""How is it computed? The gated delta rule family as Triton kernels, differentiable and tunable."""

from .api import VARIANTS, gated_delta_rule
from .chunk_tables import ChunkIndices, chunk_indices
from .config import LaunchConfig, Tile
from .decoding import decode
from .rules import delta_rule, gdn, gdn2, gla, kda, linear, mamba2
from .variants import KERNELS, Kernel

__all__ = [
    "KERNELS",
    "VARIANTS",
    "ChunkIndices",
    "Kernel",
    "LaunchConfig",
    "Tile",
    "chunk_indices",
    "decode",
    "delta_rule",
    "gated_delta_rule",
    "gdn",
    "gdn2",
    "gla",
    "kda",
    "linear",
    "mamba2",
]
