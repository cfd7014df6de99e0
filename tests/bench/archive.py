"""A session's results in few files, and back: what a machine returns may be few files of limited size.

`results.tar.xz` holds the folder of results; `compiled-N.tar.xz` what Triton compiled, without the texts it was made from.
"""

from __future__ import annotations

import io
import lzma
import os
import tarfile
from collections.abc import Iterable
from pathlib import Path

PART_BYTES = 14 << 20
"""Of compiled kernels in one archive, at most: another is begun beyond that."""
PARTS = 5
_KEPT = (".cubin", ".json", ".so", ".hsaco")
"""Of Triton's cache: what a launch needs. Texts are most of it, and nobody reads them back."""
_FAST = 1
"""xz's quickest setting: a session's seconds are dearer than its bytes."""
_PLACE = "@cache@"
"""Stands in Triton's files for the folder of its cache, which is another on the next machine."""


def pack_results(folder: Path, into: Path) -> None:
    """Everything below `folder`, whole or not at all."""
    _write(into / "results.tar.xz", ((path, str(path.relative_to(folder))) for path in _files(folder)))


def pack_compiled(cache: Path, claims: Path, into: Path, packed: set[str], first: int = 0) -> None:
    """What was compiled since the last time. packed: names that earlier parts hold; those of this one are added.

    first: number of the first part here, so that parts of several machines can lie in one folder.
    """
    chosen = [(path, f"cache/{path.relative_to(cache)}") for path in _files(cache) if path.suffix in _KEPT]
    chosen += [(path, f"claims/{path.name}") for path in _files(claims)]
    waiting = [(path, name) for path, name in chosen if name not in packed]
    while waiting and (number := len(list(into.glob("compiled-*.tar.xz")))) < PARTS:
        target, size = into / f"compiled-{first + number}.tar.xz", 0
        with _Archive(target) as (archive, stream):
            while waiting and size < PART_BYTES:
                path, name = waiting.pop(0)
                _add(archive, name, _portable(path, cache))
                packed.add(name)
                size = stream.tell()


def unpack(source: Path, folder: Path, cache: Path, claims: Path) -> None:
    """Put back what was packed, if `source` holds any of it."""
    for path in sorted(source.glob("*.tar.xz")):
        with tarfile.open(path) as archive:
            for member in archive:
                reader = archive.extractfile(member)
                if reader is None:
                    continue
                where, _, rest = member.name.partition("/")
                if path.name == "results.tar.xz":
                    target = folder / member.name
                else:
                    target = {"cache": cache, "claims": claims}[where] / rest
                content = reader.read()
                if target.name.startswith("__grp__"):
                    content = content.replace(_PLACE.encode(), str(cache).encode())
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
                target.chmod(member.mode)


def names_in(source: Path) -> set[str]:
    """Of the compiled files that archives in `source` hold."""
    found = set[str]()
    for path in sorted(source.glob("compiled-*.tar.xz")):
        with tarfile.open(path) as archive:
            found |= set(archive.getnames())
    return found


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def _portable(path: Path, cache: Path) -> bytes:
    content = path.read_bytes()
    return content.replace(str(cache).encode(), _PLACE.encode()) if path.name.startswith("__grp__") else content


def _write(target: Path, members: Iterable[tuple[Path, str]]) -> None:
    with _Archive(target) as (archive, _):
        for path, name in members:
            _add(archive, name, path.read_bytes())


class _Archive:
    """An archive that takes its name once it is whole."""

    def __init__(self, target: Path) -> None:
        self._target, self._part = target, target.with_name(f".{target.name}.part")
        target.parent.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> tuple[tarfile.TarFile, io.BufferedWriter]:
        self._stream = self._part.open("wb")
        self._packer = lzma.open(self._stream, "wb", preset=_FAST)
        self._archive = tarfile.open(fileobj=self._packer, mode="w|")
        return self._archive, self._stream

    def __exit__(self, kind: object, *_: object) -> None:
        self._archive.close()
        self._packer.close()
        self._stream.close()
        if kind is None:
            os.replace(self._part, self._target)
        else:
            self._part.unlink()


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    entry.mode = 0o755 if name.endswith(".so") else 0o644
    archive.addfile(entry, io.BytesIO(content))
