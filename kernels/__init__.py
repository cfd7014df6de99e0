"""How is it computed? The gated delta rule family as Triton kernels, differentiable and tunable."""

from .api import VARIANTS, gated_delta_rule
from .arguments.chunk_tables import ChunkIndices, chunk_indices
from .configs.launch_config import LaunchConfig, Tile
from .decoding import decode
from .registry import KERNELS, Kernel
from .rules import delta_rule, gdn, gdn2, gla, kda, linear, mamba2

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
