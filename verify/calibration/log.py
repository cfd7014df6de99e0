"""Shares of a calibration that were measured already, one file each, so that a long run can go on where it stopped."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ...results.files.atomic import replace
from .calibrate import MeasuredShare, Share


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """folder: of the files. digest: of all sources that ratios depend on."""

    folder: Path
    digest: str

    def get(self, share: Share) -> MeasuredShare | None:
        """The stored measurement of a share; None if none can be read."""
        try:
            with np.load(self._path(share)) as file:
                largest = json.loads(str(file["largest"]))
                ratios = {name.removeprefix("ratios "): file[name] for name in file.files if name != "largest"}
        except (OSError, ValueError, KeyError):
            return None
        return MeasuredShare(dtype=share.dtype, regime=share.regime, ratios=ratios, largest=largest)

    def put(self, share: Share, measured: MeasuredShare) -> None:
        """Write a share, whole or not at all."""
        buffer = io.BytesIO()
        named = {f"ratios {name}": x.astype(np.float32) for name, x in measured.ratios.items()}
        np.savez_compressed(buffer, largest=np.array(json.dumps(dict(measured.largest))), **named)  # pyright: ignore
        replace(self._path(share), buffer.getvalue())

    def _path(self, share: Share) -> Path:
        key = hashlib.sha256(json.dumps([self.digest, asdict(share)]).encode()).hexdigest()[:16]
        return self.folder / f"{share.name}-{key}.npz"
