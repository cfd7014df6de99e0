"""Shares of a calibration that were measured already, one file each, so that a long run can go on where it stopped."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ..execution.arrays import store_arrays, stored_arrays
from .calibrate import MeasuredShare, Share


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """folder: of the files. digest: of all sources that ratios depend on."""

    folder: Path
    digest: str

    def get(self, share: Share) -> MeasuredShare | None:
        """The stored measurement of a share; None if none can be read."""
        arrays = stored_arrays(self._path(share))
        if arrays is None or "largest" not in arrays:
            return None
        largest = json.loads(str(arrays.pop("largest")))
        return MeasuredShare(dtype=share.dtype, regime=share.regime, ratios=arrays, largest=largest)

    def put(self, share: Share, measured: MeasuredShare) -> None:
        """Write a share, whole or not at all."""
        ratios = {name: x.astype(np.float32) for name, x in measured.ratios.items()}
        store_arrays(self._path(share), {"largest": np.array(json.dumps(dict(measured.largest))), **ratios})

    def _path(self, share: Share) -> Path:
        key = hashlib.sha256(json.dumps([self.digest, asdict(share)]).encode()).hexdigest()[:16]
        return self.folder / f"{share.name}-{key}.npz"
