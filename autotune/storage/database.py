"""Where workers meet: a database, SQLite on one machine or PostgreSQL for many, that holds the studies and the claims of workers.

A database may be away for a while: its calls are then repeated. So everything here must bear being done twice.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import optuna
import sqlalchemy as sql
from sqlalchemy import event
from sqlalchemy.exc import ArgumentError, InterfaceError, NoSuchModuleError, OperationalError, SQLAlchemyError
from sqlalchemy.pool import StaticPool

from ...results.files.one_line import folded
from ...results.schema.strict import TableError
from ...verify.process.signals import check_interrupt

T = TypeVar("T")

PATIENCE = 300.0
"""Seconds that a database may be away (restarted, say) before a run gives up."""
HEARTBEAT, EXPIRY = 10.0, 60.0
"""Seconds between signs of life of a worker, and without one until its leases are free."""
_AWAY = (OperationalError, InterfaceError, optuna.exceptions.StorageInternalError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """An open database. name: its URL without a password. engine: for our tables. studies: for Optuna's.

    heartbeat, expiry: seconds; see HEARTBEAT and EXPIRY.
    """

    name: str
    engine: sql.Engine
    studies: optuna.storages.BaseStorage
    heartbeat: float = HEARTBEAT
    expiry: float = EXPIRY

    def retry(self, do: Callable[[], T]) -> T:
        """The result of `do`, which is repeated while the database is away. Raises OSError when patience is at its end.

        A file is never away, only locked: a full disk, say, is an error at once.
        """
        started, wait = time.monotonic(), 0.1
        while True:
            try:
                return do()
            except _AWAY as error:
                if self.engine.dialect.name == "sqlite" and "locked" not in (reason := _reason(error)):
                    raise OSError(f"{self.name}: {reason}") from None
                if time.monotonic() - started > PATIENCE:
                    raise OSError(f"{self.name}: away for {PATIENCE:g} s ({_reason(error)})") from None
            check_interrupt()
            time.sleep(wait)
            wait = min(2 * wait, 2.0)

    def clock(self) -> sql.ColumnElement[float]:
        """The time in seconds as all workers see it: hosts' own clocks differ."""
        if self.engine.dialect.name == "postgresql":
            return sql.cast(sql.extract("epoch", sql.func.clock_timestamp()), sql.Float)
        return sql.literal(time.time())


def open_storage(url: str | None, *, heartbeat: float = HEARTBEAT, expiry: float = EXPIRY) -> Storage:
    """Open a database, and make our tables and Optuna's in it if need be; None for one in memory, of this process alone.

    Raises TableError, in one line, for a URL that is none, a database that cannot be reached, or a driver that is missing;
    OSError for a full disk.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if url is None:
        engine = sql.create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
        _serialise(engine)
        TABLES.create_all(engine)
        studies = optuna.storages.InMemoryStorage()
        return Storage(name="memory", engine=engine, studies=studies, heartbeat=heartbeat, expiry=expiry)
    address = address_of(url)
    name = address.render_as_string(hide_password=True)
    lite = address.drivername == "sqlite"
    options: dict[str, Any] = {
        "pool_pre_ping": True,
        "connect_args": {"timeout": 60} if lite else {"connect_timeout": 10},
    }
    try:
        engine = sql.create_engine(address, **options)
        if lite:
            _serialise(engine)
        with engine.begin() as connection:
            if not lite:
                # Two workers that make the same tables at once would stumble over each other.
                connection.execute(sql.text("select pg_advisory_xact_lock(7171)"))
            TABLES.create_all(connection)
        studies = _studies(address, options, heartbeat, expiry)
    except (ModuleNotFoundError, NoSuchModuleError):
        raise TableError(f"--storage {name}: its driver is missing; install deltaproof[postgres]") from None
    except (SQLAlchemyError, optuna.exceptions.OptunaError, RuntimeError) as error:
        if "disk" in (reason := _reason(error)):
            raise OSError(f"{name}: {reason}") from None
        raise TableError(f"--storage {name}: {reason}") from None
    return Storage(name=name, engine=engine, studies=studies, heartbeat=heartbeat, expiry=expiry)


def address_of(url: str) -> sql.URL:
    """A URL that `open_storage` accepts, its driver spelled out. Raises TableError for any other."""
    try:
        address = sql.make_url(url)
    except ArgumentError:
        raise TableError(f"--storage {url!r}; {_FORMS}") from None
    if address.drivername == "postgresql":
        address = address.set(drivername="postgresql+psycopg")
    if address.drivername not in ("sqlite", "postgresql+psycopg"):
        raise TableError(f"--storage {address.render_as_string(hide_password=True)!r}; {_FORMS}")
    return address


def is_missing_file(url: str) -> bool:
    """Whether it names a file that is not there. Raises TableError as `address_of` does."""
    address = address_of(url)
    if address.drivername != "sqlite" or not address.database or address.query:
        return False
    return not Path(address.database).exists()


TABLES = sql.MetaData()
LEASES = sql.Table(
    "deltaproof_claims", TABLES,
    sql.Column("round", sql.String(64), primary_key=True),
    sql.Column("task", sql.String(255), primary_key=True),
    sql.Column("owner", sql.String(128), nullable=False),
    sql.Column("beat", sql.Float, nullable=False),
    sql.Column("result", sql.Text),
)  # fmt: skip
"""The leases: one row for each task of a group, with its result once there is one."""
JOBS = sql.Table(
    "deltaproof_jobs", TABLES,
    sql.Column("job", sql.String(64), primary_key=True),
    sql.Column("request", sql.Text, nullable=False),
)  # fmt: skip
"""The jobs asked for, so that a worker needs nothing but the storage."""

_FORMS = "accepted: sqlite:///FILE and postgresql://USER@HOST/NAME"


def _studies(address: sql.URL, options: dict[str, Any], heartbeat: float, expiry: float) -> optuna.storages.BaseStorage:
    last: Exception | None = None
    for _ in range(5):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                storage = optuna.storages.RDBStorage(
                    address.render_as_string(hide_password=False), engine_kwargs=options,
                    heartbeat_interval=max(1, round(heartbeat)), grace_period=max(1, round(expiry)),
                )  # fmt: skip
            if address.drivername == "sqlite":
                # SQLite knows no SELECT FOR UPDATE, so two workers would take the same waiting trial.
                _serialise(storage.engine)
            return storage
        except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
            # Another worker is making the same tables.
            last = error
            time.sleep(0.3)
    assert last is not None
    raise last


def _serialise(engine: sql.Engine) -> None:
    """Let every transaction on SQLite begin by taking the lock: of two that read first and write then, one would lose."""

    def connected(connection: Any, _: object) -> None:
        connection.isolation_level = None

    def begins(connection: sql.Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    event.listen(engine, "connect", connected)
    event.listen(engine, "begin", begins)
    engine.dispose()  # connections made before would not know


def _reason(error: Exception) -> str:
    """The first line of the cause of an error of the database."""
    inner = getattr(error, "orig", None) or error.__cause__ or error
    inner = getattr(inner, "orig", None) or inner
    return folded(inner)[:200] or type(inner).__name__
