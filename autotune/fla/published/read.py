"""Published times of forward passes of the gated delta rule, as a file of CSV has them."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ....results.schema.strict import TableError

COLUMNS = ("gpu", "pass", "sequences", "h_qk", "h_v", "fla_ms")


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """One published time. lengths: tokens of each sequence. milliseconds: of one forward pass."""

    gpu: str
    lengths: tuple[int, ...]
    key_heads: int
    value_heads: int
    milliseconds: float

    @property
    def token_heads(self) -> int:
        return sum(self.lengths) * self.value_heads


def read_published(path: Path) -> list[Published]:
    """The forward passes of a file (CSV). Raises TableError, in one line, for a file that holds none."""
    rows = []
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            if missing := [name for name in COLUMNS if name not in (reader.fieldnames or ())]:
                raise ValueError(f"no column {missing[0]!r}")
            for row in reader:
                if any(row[name] is None for name in COLUMNS):
                    raise ValueError(f"line {reader.line_num} has another number of fields than the first line")
                if row["pass"] == "forward":
                    rows.append(_published(row))
    except (OSError, ValueError, csv.Error) as error:
        raise TableError(f"{path}: no published times ({error})") from None
    if not rows:
        raise TableError(f"{path}: no published times (no row whose pass is 'forward')")
    return rows


def _published(row: Mapping[str, str]) -> Published:
    times = row["sequences"].split("x")
    if len(times) == 2:
        # A count comes before a length, or behind it, and is the smaller one.
        count, length = sorted(map(int, times))
        lengths = (length,) * count
    else:
        lengths = tuple(map(int, row["sequences"].split("+")))
    heads = int(row["h_qk"]), int(row["h_v"])
    time = float(row["fla_ms"])
    if not (
        lengths
        and 0 < time < math.inf
        and min(*lengths, *heads) > 0
        and sum(lengths) < 1 << 31
        and max(heads) < 1 << 16
    ):
        raise ValueError(f"{dict(row)} is no call")
    return Published(gpu=row["gpu"], lengths=lengths, key_heads=heads[0], value_heads=heads[1], milliseconds=time)
