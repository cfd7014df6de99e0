"""The records that ship. `records/<gpu>.jsonl.xz` holds those that any machine can make again; beside it, plain,
`records/<gpu>/device.jsonl` holds those that only a device can make.
"""

from __future__ import annotations

import lzma
from collections.abc import Iterable, Sequence

from ..digests.kernels import record_kernel
from ..files.packaged import packaged
from ..schema.record import Estimated, Gated, Measured, Ranking, Record, Rejected, record_from_line, record_to_line
from ..schema.strict import TableError
from .journal import Read, records_in

SUFFIX = ".jsonl.xz"
DEVICE = "device.jsonl"

_FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": 8 * 2**20}]
_LARGEST = 256 * 2**20
"""Bytes of records in one archive, at most."""
_MEMORY = 64 * 2**20
"""Bytes that a decoder may take."""


def is_of_device(record: Record) -> bool:
    """Whether a record was measured or judged on a device, so that no other machine can make it again.

    A rejection without a stage is one of the whole configuration, which only running it gives.
    """
    match record:
        case Measured() | Gated(where="device") | Rejected(stage=""):
            return True
    return False


def current(records: Iterable[Record]) -> list[Record]:
    """The records of the kernels that there are now, in order. Tables are derived from no others.

    A ranking is left out where every estimate of it is: it would count as one that found nothing.
    """
    records = list(records)
    kept = [one for one in records if isinstance(one, Ranking) or record_kernel(one) == one.kernel]
    named = {one.ranking for one in records if isinstance(one, Estimated)}
    left = {one.ranking for one in kept if isinstance(one, Estimated)}
    return [one for one in kept if not isinstance(one, Ranking) or one.ranking in left or one.ranking not in named]


def compress(records: Iterable[Record]) -> bytes:
    """An archive of records, in their order. Equal records give equal bytes with one version of liblzma."""
    text = "".join(f"{record_to_line(record)}\n" for record in records)
    return lzma.compress(text.encode(), format=lzma.FORMAT_XZ, check=lzma.CHECK_CRC64, filters=_FILTERS)


def decompress(data: bytes, where: str, read: Read = record_from_line) -> tuple[Record, ...]:
    """The records of an archive, in order; `where` names it in errors. Raises TableError."""
    try:
        decoder = lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=_MEMORY)
        text = decoder.decompress(data, _LARGEST)
    except lzma.LZMAError as error:
        raise TableError(f"{where}: the archive is damaged ({error})") from None
    if not decoder.eof or decoder.unused_data or (text and not text.endswith(b"\n")):
        raise TableError(f"{where}: the archive is damaged (it is cut off, or its end is not the end of the file)")
    return tuple(records_in(text, where, read))


def shipped_records(slug: str, read: Read = record_from_line) -> Sequence[Record]:
    """The records of a GPU that ship, those of a device first; none for a GPU that nobody tuned for. Raises TableError."""
    found: list[Record] = []
    device, archive = packaged("records") / slug / DEVICE, packaged("records") / f"{slug}{SUFFIX}"
    try:
        if device.is_file():
            found += records_in(device.read_bytes(), f"packaged records/{slug}/{DEVICE}", read)
        if archive.is_file():
            found += decompress(archive.read_bytes(), f"packaged records/{slug}{SUFFIX}", read)
    except OSError as error:
        raise TableError(f"packaged records of {slug}: {error.strerror or error}") from None
    return found
