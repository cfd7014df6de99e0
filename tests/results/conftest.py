"""Builders that the tests of `results` share, as fixtures: entries, records and the GPU they are for."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import deltaproof
from deltaproof.results import forget
from deltaproof.results.schema.entry import TableEntry
from deltaproof.results.schema.gpus import Resources, resolve
from deltaproof.results.schema.key import Key
from deltaproof.results.schema.record import Estimated, Gated, Measured, Ranking, Record, Rejected
from deltaproof.results.schema.table import Left, Refused, make_table, write_table

KERNEL, OLD_KERNEL = "11" * 8, "22" * 8


def key(**others: Any) -> Key:
    call = {"op": "chunk_fwd", "rule": "gdn2", "dtype": "bf16", "K": 128, "V": 128, "tokens": 8192, "heads": 16}
    return Key(**call | others)


def entry(tier: str = "A", config: str = "c64", kernel: str = KERNEL, **others: Any) -> TableEntry:
    """An entry of a tier, with the evidence that the tier asks for; what is not a field of it goes into its key."""
    fields = {name: others.pop(name) for name in list(others) if name in TableEntry.__slots__}
    timed = tier in ("A", "B")
    gate = fields.pop("gate", "device" if timed else "owed")
    evidence = {"measurement": "ab" * 8 if timed else "", "gate": gate, "verdict": "" if gate == "owed" else "cd" * 8}
    sizes = {"tokens": 0, "heads": 0} if tier == "portfolio" else {}
    need = Resources(shared=40_000, registers=30_000, threads=256)
    return TableEntry(
        **{"key": key(**sizes | others), "config": config, "tier": tier, "kernel": kernel, "resources": need}
        | evidence
        | fields
    )


def timed(config: str, *samples: float, **others: Any) -> Measured:
    fields = {
        name: others.pop(name) for name in list(others) if name in ("device", "triton", "driver", "protocol", "kernel")
    }
    need = Resources(shared=1024, registers=others.pop("registers", 8192), threads=128)
    about: dict[str, Any] = {
        "device": "a device",
        "protocol": "median-1",
        "kernel": KERNEL,
        "triton": "3.7.1",
        "driver": "580.1",
    }
    return Measured(key=key(**others), config=config, samples=samples, resources=need, **about | fields)


def guessed(config: str, milliseconds: float, kernel: str = KERNEL, **others: Any) -> Estimated:
    need = Resources(shared=others.pop("shared", 1024), registers=others.pop("registers", 8192), threads=128)
    about = {name: others.pop(name) for name in ("triton", "ranking") if name in others}
    return Estimated(
        key=key(**others), config=config, kernel=kernel, milliseconds=milliseconds, resources=need, **about
    )


def ranking(name: str, kernel: str = KERNEL, **others: Any) -> Ranking:
    return Ranking(key=key(tokens=0, heads=0, **others), kernel=kernel, ranking=name)


def gated(config: str, held: bool = True, where: Any = "device", kernel: str = KERNEL, **others: Any) -> Gated:
    return Gated(key=key(tokens=0, heads=0, **others), config=config, kernel=kernel, where=where, held=held)


def verified(records: Iterable[Record]) -> list[Record]:
    """The records, after verdicts of the interpreter that let pass all that they predict."""
    records = list(records)
    places = {
        (replace(one.key, tokens=0, heads=0), one.config, one.kernel) for one in records if isinstance(one, Estimated)
    }
    verdicts: list[Record] = []
    for place, config, kernel in sorted(places):
        head = ",".join(
            part for part in config.split(",") if part[0] == "c" or part.startswith(("variant=", "solver="))
        )
        for about, token in ((replace(place, K=0, V=0), head), (place, config)):
            verdicts.append(Gated(key=about, config=token, kernel=kernel, where="interpreter", held=True))
    return verdicts + records


def rejected(config: str, reason: Any, kernel: str = KERNEL, **others: Any) -> Rejected:
    about = {name: others.pop(name) for name in ("triton", "stage") if name in others}
    return Rejected(key=key(**others), config=config, kernel=kernel, reason=reason, **about)


@pytest.fixture(scope="session")
def make() -> SimpleNamespace:
    return SimpleNamespace(
        key=key,
        entry=entry,
        timed=timed,
        guessed=guessed,
        triton_is=triton_is,
        gated=gated,
        ranking=ranking,
        rejected=rejected,
        verified=verified,
        KERNEL=KERNEL,
        OLD_KERNEL=OLD_KERNEL,
        KERNELS=lambda key, config: KERNEL,
    )


def triton_is(installed: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Has this version of Triton installed, or none."""

    def version(package: str) -> str:
        if package != "triton" or installed is None:
            raise PackageNotFoundError(package)
        return installed

    monkeypatch.setattr("importlib.metadata.version", version)
    forget()


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Path]]:
    """Writes a table of entries into a folder of its own, and looks tables up nowhere but in such folders, as without Triton."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.delenv("DELTAPROOF_TABLES", raising=False)
    monkeypatch.setattr("deltaproof.results.serve.search_path.packaged", lambda name: tmp_path / "shipped" / name)
    triton_is(None, monkeypatch)

    def put(
        *entries: TableEntry, gpu: str | None = "H100", folder: str = "mine", refused: Iterable[Refused] = (),
        left: Iterable[Left] = (),
    ) -> Path:  # fmt: skip
        table = make_table(resolve(gpu) if gpu else None, entries, left, refused)
        write_table(table, tmp_path / folder / f"{table.gpu}.json")
        forget()
        return tmp_path / folder

    yield put
    forget()


@pytest.fixture(scope="session")
def python() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a script in a fresh interpreter that can import deltaproof."""
    package = str(Path(deltaproof.__file__).parents[1])

    def run(script: str, *arguments: object, flags: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *flags, "-c", script, *map(str, arguments)]
        environment = {**os.environ, "PYTHONPATH": package}
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)

    return run
