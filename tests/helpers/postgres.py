"""A real PostgreSQL server, started for a test and stopped after it: the machine's own, else the one that pgserver brings."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

USER = "deltaproof"


def programs(folder: Path) -> Path:
    """The folder with initdb and pg_ctl, which distributions keep off the path; or a copy of pgserver's in `folder`."""
    found = shutil.which("initdb")
    places = [Path(found).resolve().parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))[::-1]
    if place := next((place for place in places if (place / "initdb").exists() and (place / "pg_ctl").exists()), None):
        return place
    packaged = find_spec("pgserver")
    assert packaged and packaged.origin, "no PostgreSQL: install the distribution's, or pgserver"
    # Whoever runs the server may not be let into the environment that it came with.
    for part in Path(packaged.origin).parent.parent.glob("pgserver*"):
        shutil.copytree(part, folder / part.name)
    return folder / "pgserver" / "pginstall" / "bin"


def user() -> str | None:
    """Who runs the server where root runs the tests: PostgreSQL will not be root's."""
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in ("postgres", "nobody") if name in known) if os.getuid() == 0 else None


class Server:
    """A server and its databases. Its processes are not root's, which PostgreSQL does not accept."""

    def __init__(self, bin: Path, folder: Path) -> None:
        self._bin, self._data = bin, folder / "data"
        self._as: dict[str, Any] = {"user": user(), "group": pwd.getpwnam(user() or "").pw_gid} if user() else {}
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
def server() -> Iterator[Server]:
    folder = Path(tempfile.mkdtemp(prefix="postgres-", dir="/tmp"))
    try:
        if owner := user():
            shutil.chown(folder, owner, pwd.getpwnam(owner).pw_gid)
        found = Server(programs(folder), folder)
        found.start()
        try:
            yield found
        finally:
            found.stop("immediate")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
