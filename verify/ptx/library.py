"""The engine's library: built by the machine's C compiler once, kept in the user's cache by the digest of its source."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from ...specs.arithmetic.field_tables import BASE, P, Q
from .assembly.opcodes import NATIVE
from .errors import NoCompiler

# No fusing of products and sums that PTX keeps apart, and no instruction set but the one that every machine has.
FLAGS = ("-O2", "-std=gnu11", "-fPIC", "-shared", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math")
_EXACT = ("-DEXACT", f"-DPRIME={P}", f"-DORDER={Q}", f"-DBASE={BASE}")
_QUOTED_OR_COMMENT = re.compile(r"""("(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')|//[^\n]*|/\*.*?\*/""", re.DOTALL)


@functools.cache
def library(exact: bool = False) -> ctypes.CDLL:
    """The engine, loaded; with `exact`, its floats are elements of a ring. Raises NoCompiler where it is not built and nothing
    builds it."""
    engine = ctypes.CDLL(str(_built(_EXACT if exact else ())))
    pointer, number, long = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64
    engine.machine_new.restype = pointer
    engine.machine_new.argtypes = [pointer, pointer, pointer]
    engine.machine_free.argtypes = [pointer]
    engine.machine_run.restype = number
    engine.machine_run.argtypes = [pointer, pointer, number, pointer, pointer, pointer, pointer, long, long, number]
    engine.machine_events.restype = pointer
    engine.machine_events.argtypes = [pointer, ctypes.POINTER(number)]
    for name in ("machine_executed", "machine_traffic"):
        getattr(engine, name).restype = pointer
        getattr(engine, name).argtypes = [pointer]
    engine.machine_sizes.argtypes = [number]
    return engine


def compiler() -> str:
    """The C compiler, found as Triton finds its own. Raises NoCompiler."""
    named = os.environ.get("CC")
    for name in (named,) if named else ("gcc", "clang", "cc"):
        if found := shutil.which(name):
            return found
    looked = f"CC={named}" if named else "gcc, clang, cc"
    raise NoCompiler(f"running compiled PTX needs a C compiler, and there is none ({looked}); Triton needs one as well")


def digest() -> str:
    """Names the source without its comments, and the flags."""
    known = hashlib.sha256(repr(FLAGS).encode())
    for path in sorted(NATIVE.glob("*.[ch]")):
        code = _QUOTED_OR_COMMENT.sub(lambda found: found[1] or " ", path.read_text(encoding="utf-8"))
        lines = (" ".join(line.split()) for line in code.splitlines())
        known.update("\n".join([path.name, *filter(None, lines)]).encode() + b"\0")
    return known.hexdigest()[:20]


def _built(defined: tuple[str, ...]) -> Path:
    from platformdirs import user_cache_path

    folder = user_cache_path("deltaproof") / "engine"
    path = folder / f"ptx-{digest()}{''.join(defined)}.so"
    if path.exists():
        return path
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NoCompiler(f"cannot keep the engine in {folder}: {error.strerror}") from None
    command = compiler()
    # Built beside its place and moved there: another process never loads half a library.
    with tempfile.TemporaryDirectory(dir=folder) as build:
        out = Path(build) / "engine.so"
        ran = subprocess.run(
            [command, *FLAGS, *defined, "-o", str(out), str(NATIVE / "engine.c"), "-lm"],
            capture_output=True,
            text=True,
            check=False,
        )
        if ran.returncode:
            lines = (ran.stderr.strip() or f"exit code {ran.returncode}").splitlines()
            reason = next((line for line in lines if "error" in line), lines[0])
            raise NoCompiler(f"{command} does not build the PTX engine: {reason}")
        os.replace(out, path)
    return path
