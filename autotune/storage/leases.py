"""Leases of tasks: a worker acquires one before it begins, keeps it alive, and is the only one to complete the task.

A lease whose owner gave no sign of life for `Storage.expiry` seconds, or is a process of this machine that is gone, is free
for others. An owner that was merely slow then finds that its result counts no more: of every task there is one result.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Literal

import optuna
import sqlalchemy as sql
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from .database import LEASES, Storage

Outcome = Literal["mine", "known", "taken", "exhausted"]
"""It is ours to do; there is a result; another is at it; nothing new is to be begun."""


class LeaseGroup:
    """The leases of the tasks of one name in a storage. name: of everything that must be equal for results to be comparable.

    owner: of the leases; this process by default.
    """

    def __init__(self, storage: Storage, name: str, *, owner: str | None = None) -> None:
        self._storage, self.owner = storage, owner or this_process()
        self._group = hashlib.sha256(name.encode()).hexdigest()
        self._held: set[str] = set()

    def acquire(self, task: str, limit: int | None = None) -> Outcome:
        """Acquire the lease of a task. limit: tasks of the group, after which only those that others dropped may be begun."""

        def attempt() -> Outcome:
            try:
                with self._storage.engine.begin() as connection:
                    return self._acquire(connection, task, limit)
            except IntegrityError:
                return "taken"

        lease = self._storage.retry(attempt)
        if lease == "mine":
            self._held.add(task)
        return lease

    def complete(self, task: str, result: str) -> bool:
        """Give the result of a task; False if it does not count, because the lease was lost on the way."""

        def attempt() -> bool:
            with self._storage.engine.begin() as connection:
                mine = (LEASES.c.round == self._group) & (LEASES.c.task == task) & (LEASES.c.owner == self.owner)
                done = connection.execute(
                    sql.update(LEASES).where(mine & LEASES.c.result.is_(None)).values(result=result)
                )
                # It may have been done already, and only the answer of the database have been lost.
                return bool(done.rowcount) or connection.scalar(sql.select(LEASES.c.result).where(mine)) == result

        try:
            return self._storage.retry(attempt)
        finally:
            self._held.discard(task)

    def release(self, task: str) -> None:
        """Give up a lease, so that nobody has to wait for it to expire."""
        self._held.discard(task)
        mine = (LEASES.c.round == self._group) & (LEASES.c.task == task) & (LEASES.c.owner == self.owner)
        # If that fails, the lease expires.
        with suppress(SQLAlchemyError), self._storage.engine.begin() as connection:
            connection.execute(sql.delete(LEASES).where(mine & LEASES.c.result.is_(None)))

    def results(self) -> dict[str, str]:
        """The known results, by task."""
        rows = self._rows(LEASES.c.result.is_not(None), LEASES.c.result)
        return dict(rows)

    def pending(self) -> dict[str, bool]:
        """Tasks under way, and whether their leases are free again."""
        now = self._storage.clock()
        rows = self._rows(LEASES.c.result.is_(None), LEASES.c.owner, LEASES.c.beat < now - self._storage.expiry)
        return {task: bool(expired) or _gone(owner) for task, owner, expired in rows if owner != self.owner}

    @contextmanager
    def alive(self, also: Callable[[], object] = lambda: None) -> Iterator[None]:
        """Keep the leases of this worker while the context lasts; `also` is called at every heartbeat."""
        ended = threading.Event()
        thread = threading.Thread(target=self._heartbeat, args=(ended, also), daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _acquire(self, connection: sql.Connection, task: str, limit: int | None) -> Outcome:
        if connection.dialect.name == "postgresql":
            # The limit is counted and the row written as one.
            connection.execute(sql.select(sql.func.pg_advisory_xact_lock(int(self._group[:15], 16))))
        here = (LEASES.c.round == self._group) & (LEASES.c.task == task)
        now = self._storage.clock()
        expired = LEASES.c.beat < now - self._storage.expiry
        row = connection.execute(sql.select(LEASES.c.owner, LEASES.c.result, expired).where(here)).first()
        if row is None:
            if limit is not None:
                begun = sql.select(sql.func.count()).select_from(LEASES).where(LEASES.c.round == self._group)
                if (connection.scalar(begun) or 0) >= limit:
                    return "exhausted"
            values = {"round": self._group, "task": task, "owner": self.owner, "beat": now}
            connection.execute(sql.insert(LEASES).values(values))
            return "mine"
        owner, result, late = row
        if result is not None:
            return "known"
        if owner != self.owner and not late and not _gone(owner):
            return "taken"
        unchanged = here & (LEASES.c.owner == owner) & LEASES.c.result.is_(None)
        taken = connection.execute(sql.update(LEASES).where(unchanged).values(owner=self.owner, beat=now))
        return "mine" if taken.rowcount else "taken"

    def _rows(self, which: sql.ColumnElement[bool], *columns: sql.ColumnElement) -> list[tuple]:
        wanted = sql.select(LEASES.c.task, *columns).where((LEASES.c.round == self._group) & which)
        wanted = wanted.order_by(LEASES.c.task)

        def attempt() -> list[tuple]:
            with self._storage.engine.begin() as connection:
                return [tuple(row) for row in connection.execute(wanted)]

        return self._storage.retry(attempt)

    def _heartbeat(self, ended: threading.Event, also: Callable[[], object]) -> None:
        while not ended.wait(self._storage.heartbeat):
            held = list(self._held)
            mine = (LEASES.c.round == self._group) & LEASES.c.task.in_(held) & (LEASES.c.owner == self.owner)
            try:
                with self._storage.engine.begin() as connection:
                    connection.execute(sql.update(LEASES).where(mine).values(beat=self._storage.clock()))
                also()
            except (SQLAlchemyError, optuna.exceptions.OptunaError):
                continue  # the database is away: the next beat finds it back, or the leases expire


def this_process() -> str:
    """Names this process among all processes of all machines."""
    return _name(os.getpid())


@cache
def _name(process: int) -> str:
    # By its number, since a forked child inherits the cache of its parent.
    return f"{_machine()}:{process}:{_started(process)}:{os.urandom(4).hex()}"


def _gone(owner: str) -> bool:
    """Whether an owner was a process of this machine and runs no more."""
    machine, *rest = owner.rsplit(":", 3)
    if machine != _machine() or len(rest) != 3 or not rest[0].isdigit():
        return False
    return _started(int(rest[0])) != rest[1]


@cache
def _machine() -> str:
    """This boot of this machine, and the namespace of its process numbers."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}:{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return os.urandom(8).hex()


def _started(process: int) -> str:
    """When a process started, in ticks since the machine did; "" if there is no such process, or it is a zombie."""
    try:
        words = Path(f"/proc/{process}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if words[0] in "ZX" else words[19]
