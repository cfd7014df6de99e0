"""A PostgreSQL server of this machine's own packages, started for a test and stopped after it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

USER = "deltaproof"


def programs() -> Path | None:
    """The folder with initdb and pg_ctl, which distributions keep off the path; None if they are not installed."""
    found = shutil.which("initdb")
    places = [Path(found).resolve().parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))[::-1]
    return next((place for place in places if (place / "initdb").exists() and (place / "pg_ctl").exists()), None)


class Server:
    """A server and its databases. Its processes are not root's, which PostgreSQL does not accept."""

    def __init__(self, bin: Path, folder: Path) -> None:
        self._bin, self._data = bin, folder / "data"
        self._as: dict[str, Any] = {"user": "postgres", "group": "postgres"} if os.getuid() == 0 else {}
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self._log = folder / "log"
        self._run("initdb", "-A", "trust", "-U", USER, "--no-sync")

    def start(self) -> None:
        settings = f"-p {self._port} -k {self._data.parent} -c listen_addresses=127.0.0.1 -c fsync=off"
        self._run("pg_ctl", "start", "-w", "-l", str(self._log), "-o", settings)

    def database(self) -> str:
        """The URL of a new, empty database."""
        name = f"t{os.urandom(6).hex()}"
        self._run(
            "psql", "-h", "127.0.0.1", "-p", str(self._port), "-U", USER, "-c", f"create database {name}", "postgres"
        )
        return f"postgresql://{USER}@127.0.0.1:{self._port}/{name}"

    def stop(self, how: str = "fast") -> None:
        self._run("pg_ctl", "stop", "-w", "-m", how)

    def _run(self, program: str, *arguments: str) -> None:
        where = () if program == "psql" else ("-D", self._data)
        command = [self._bin / program, *arguments, *where]
        done = subprocess.run(command, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                              timeout=120, **self._as)  # fmt: skip
        assert done.returncode == 0, done.stderr


@contextmanager
def server(bin: Path) -> Iterator[Server]:
    folder = Path(tempfile.mkdtemp(prefix="postgres-", dir="/tmp"))
    try:
        if os.getuid() == 0:
            shutil.chown(folder, "postgres", "postgres")
        found = Server(bin, folder)
        found.start()
        try:
            yield found
        finally:
            found.stop("immediate")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
