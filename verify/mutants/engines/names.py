"""The names of the engines."""

from __future__ import annotations

from enum import StrEnum


class EngineName(StrEnum):
    deltaproof = "deltaproof"
    cosmic_ray = "cosmic-ray"
