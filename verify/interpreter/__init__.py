"""Triton kernels on the CPU under several arithmetics: IEEE as on a GPU, or exact over a finite field; with or without bounds."""

from .memory import MemoryFault as MemoryFault
from .payloads import field_array as field_array
from .payloads import payload_tensor as payload_tensor
from .session import Session as Session
from .session import session as session
