"""Triton kernels on the CPU under several arithmetics: rounding as a GPU does, or exact over a finite field."""

from .addresses.memory import MemoryFault as MemoryFault
from .arithmetic.payloads import field_array as field_array
from .arithmetic.payloads import payload_tensor as payload_tensor
from .session import Session as Session
from .session import session as session
