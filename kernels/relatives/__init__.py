"""Relatives of the rule: each a re-parameterisation around the one op, one file per system.

`RELATIVES` holds all of them in one calling convention; models call the functions.
"""

from .carve import CarveCache, carve
from .comba import comba
from .delta_product import gated_delta_product
from .longhorn import longhorn
from .mamba3 import Mamba3State, mamba3, mamba3_mimo
from .preconditioned import PreconditionedState, preconditioned_delta_rule
from .registry import RELATIVES, Relative
from .retention import retention
from .rwkv7 import rwkv7

__all__ = [
    "RELATIVES",
    "CarveCache",
    "Mamba3State",
    "PreconditionedState",
    "Relative",
    "carve",
    "comba",
    "gated_delta_product",
    "longhorn",
    "mamba3",
    "mamba3_mimo",
    "preconditioned_delta_rule",
    "retention",
    "rwkv7",
]
