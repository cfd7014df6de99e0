"""Validate untrusted records and tables against the current kernels."""

from __future__ import annotations

from functools import lru_cache

from ...kernels.configs.launch_config import LaunchConfig
from ...kernels.configs.space import OP_STAGES, stage_names
from ...results.digests.kernels import kernel_digest, record_kernel
from ...results.schema.key import Key
from ...results.schema.record import (
    Compiled,
    Estimated,
    Measured,
    Ranking,
    Record,
    Rejected,
    Unexplored,
    record_from_line,
)
from ...results.schema.strict import TableError
from ...results.schema.table import Table
from ...specs.rule import RULES


def read_record(line: str, where: str) -> Record:
    """`record_from_line`, which also refuses a record that nobody could have made of the kernels as they are. Of older kernels
    nothing is known any more, and their records are not checked. Raises TableError."""
    record = record_from_line(line, where)
    if record_kernel(record) == record.kernel:
        try:
            _validate(record)
        except ValueError as error:
            raise TableError(f"{where}: {error}") from None
    return record


def validated(table: Table, where: str) -> Table:
    """The table, if each of its entries can be launched with the kernels that it names. Raises TableError."""
    for entry in table.entries:
        if kernel_digest(entry.key, entry.config) == entry.kernel:
            try:
                _validate_names(entry.key, entry.config)
            except ValueError as error:
                raise TableError(f"{where}: entry {entry.key}: {error}") from None
    return table


def _validate_names(key: Key, config: str) -> None:
    if key.op not in OP_STAGES:
        raise ValueError(f"op {key.op!r}; tuned are {', '.join(OP_STAGES)}")
    if key.rule not in RULES:
        raise ValueError(f"rule {key.rule!r}; known: {', '.join(RULES)}")
    if (token := _token(config)) != config:
        raise ValueError(f"configuration {config!r} is written {token!r}")


def _validate(record: Record) -> None:
    of_all = isinstance(record, Unexplored | Ranking)
    _validate_names(record.key, "c64" if of_all else record.config)
    match record:
        case Compiled() | Rejected():
            stages = stage_names(record.key.op)
            if record.stage not in stages and (record.stage or isinstance(record, Compiled)):
                raise ValueError(f"stage {record.stage!r}; {record.key.op} has {', '.join(sorted(stages))}")
            if isinstance(record, Compiled) and not (record.key.K and record.key.V and record.resources.threads):
                raise ValueError("a program without threads or head dimensions")
        case Measured() if not min(record.samples):
            raise ValueError("a sample of 0 ms")
        case Estimated() if not record.milliseconds:
            raise ValueError("an estimate of 0 ms")
        case _:
            pass


@lru_cache(maxsize=1 << 16)
def _token(config: str) -> str:
    return LaunchConfig.parse(config).token
