"""Drop-in layers: token mixers of the gated delta rule family as modules."""

from .cache import MixerCache, Windows
from .carve import Carve
from .config import MixerConfig
from .from_fla import from_fla
from .gdn import GatedDeltaNet
from .gdn2 import GatedDeltaNet2
from .kda import KimiDeltaAttention

__all__ = [
    "Carve",
    "GatedDeltaNet",
    "GatedDeltaNet2",
    "KimiDeltaAttention",
    "MixerCache",
    "MixerConfig",
    "Windows",
    "from_fla",
]
