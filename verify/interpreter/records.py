"""Findings of a session on the way, and their places in the kernel's source."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from types import FrameType

import triton

KERNEL_MARK = "__deltaproof_kernel__"
"""A name in the globals of every function that a session runs as device code."""

TRITON = os.path.dirname(os.path.abspath(triton.__file__)) + os.sep
"""The folder of the language's own functions, `tl.sum` for one."""
_OURS = os.path.dirname(os.path.abspath(__file__)) + os.sep

Place = tuple[str, int]
"""(source file, line), the line counted from 1."""


def in_kernel(frame: FrameType) -> bool:
    """Whether a frame runs a user's kernel or device function, and not one of Triton's own library."""
    return KERNEL_MARK in frame.f_globals and not frame.f_code.co_filename.startswith(TRITON)


def kernel_place() -> Place:
    """The innermost line of a user's kernel on the stack; ("?", 0) if there is none."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if in_kernel(frame):
            return frame.f_code.co_filename, frame.f_lineno
        frame = frame.f_back
    return "?", 0


def host_place() -> Place:
    """The innermost line outside torch, Triton and this package: the host code that called an operator."""
    import torch

    skip = (os.path.dirname(os.path.abspath(torch.__file__)) + os.sep, TRITON, _OURS)
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if not frame.f_code.co_filename.startswith(skip):
            return frame.f_code.co_filename, frame.f_lineno
        frame = frame.f_back
    return "?", 0


@dataclass(slots=True)
class Records:
    """Findings of one session, in the order of their first occurrence and without repeats.

    unsupported: "operation at file:line" that an exact session met and cannot answer.
    narrowings: places of hard narrowing casts in an exact session.
    rounded_dots: places of float32 dots whose input precision is not ieee, in any session.
    intrinsics: names of device functions that an exact session replaced by a formal operation of the same name.
    """

    unsupported: list[str] = field(default_factory=list)
    narrowings: list[Place] = field(default_factory=list)
    rounded_dots: list[Place] = field(default_factory=list)
    intrinsics: list[str] = field(default_factory=list)

    def add_unsupported(self, operation: str, place: Place) -> None:
        _add(self.unsupported, f"{operation} at {place[0]}:{place[1]}")

    def add_narrowing(self, place: Place) -> None:
        _add(self.narrowings, place)

    def add_rounded_dot(self, place: Place) -> None:
        _add(self.rounded_dots, place)

    def add_axiom(self, name: str) -> None:
        _add(self.intrinsics, name)


def _add(items: list, item: object) -> None:
    if item not in items:
        items.append(item)
