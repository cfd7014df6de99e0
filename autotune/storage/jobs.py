"""The jobs of a storage: a run writes down the problems that it tunes, and a worker needs nothing but the URL to join."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sql
from sqlalchemy.exc import IntegrityError

from ...results.schema.strict import TableError, parse
from .database import JOBS, Storage

SCHEMA = 2
LISTS: Mapping[str, type] = {"ops": str, "rules": str, "dtypes": str, "dims": int}

Job = dict[str, Any]
"""gpu: a slug; trials; ops, rules, dtypes, dims: lists; all as a run takes them."""


def post(storage: Storage, gpu: str, trials: int, **lists: Sequence[str] | Sequence[int]) -> None:
    """Write down a job; once, however often it is posted."""
    job = {"schema": SCHEMA, "gpu": gpu, "trials": trials} | {name: sorted(lists[name]) for name in LISTS}
    text = json.dumps(job, sort_keys=True)
    row = {"job": hashlib.sha256(text.encode()).hexdigest(), "request": text}

    def attempt() -> None:
        try:
            with storage.engine.begin() as connection:
                connection.execute(sql.insert(JOBS).values(row))
        except IntegrityError:
            return  # it is there

    storage.retry(attempt)


def jobs(storage: Storage) -> list[Job]:
    """Every job, in a fixed order. Raises TableError for one that is none."""

    def attempt() -> list[str]:
        with storage.engine.begin() as connection:
            return [str(text) for text in connection.scalars(sql.select(JOBS.c.request).order_by(JOBS.c.job))]

    return [_read(text, storage.name) for text in storage.retry(attempt)]


def _read(text: str, where: str) -> Job:
    job = parse(text, f"{where}: a job")
    if not isinstance(job, dict) or job.get("schema") != SCHEMA or set(job) != {"schema", "gpu", "trials", *LISTS}:
        raise TableError(f"{where}: a job of another version, or none at all")
    for name, kind in LISTS.items():
        values = job[name]
        if not isinstance(values, list) or not values or any(type(value) is not kind for value in values):
            raise TableError(f"{where}: a job whose {name} are no list of {kind.__name__}")
    if not isinstance(job["gpu"], str):
        raise TableError(f"{where}: a job without a GPU")
    if type(job["trials"]) is not int or job["trials"] < 1:
        raise TableError(f"{where}: a job whose trials are no positive number")
    del job["schema"]
    return job
