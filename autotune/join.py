"""`autotune worker`: one GPU joins the runs whose jobs are in a storage."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path

from ..results.schema.strict import TableError
from ..specs.gpus import Gpu
from ..specs.gpus import gpu as find_gpu
from ..verify.compile.compilation import compiled_folder
from .records.ledger import default_out
from .storage.database import is_missing_file, open_storage
from .storage.jobs import jobs as read_jobs
from .timing.device import Device
from .tune import Hooks, Report, Request, tune


def join(
    url: str,
    *,
    device_of: Callable[[Gpu], Device | None],
    jobs: int,
    out: Path | None,
    budget: float | None,
    hooks: Hooks,
) -> list[Report]:
    """Take part in every job of a storage that is for the GPU of this machine; `device_of` tells whether one is.

    budget: seconds for all of them together, None for no end. Raises TableError where there is no such job, or no job at all.
    """
    # Opening a file that is not there would leave an empty database behind.
    storage = None if is_missing_file(url) else open_storage(url)
    waiting = [] if storage is None else read_jobs(storage)
    if not waiting:
        name = url if storage is None else storage.name
        raise TableError(f"nothing to do in {name}: start a run with `autotune --gpu NAME --storage URL`")
    names = sorted({str(job["gpu"]) for job in waiting})
    devices = {name: device_of(_gpu(name)) for name in names}
    if not any(devices.values()):
        raise TableError(f"the jobs in that storage are for {', '.join(names)}, and this machine has no such GPU")
    deadline = math.inf if budget is None else time.monotonic() + budget
    reports = []
    for job in waiting:
        if device := devices[job["gpu"]]:
            left = deadline - time.monotonic()
            if left <= 0:
                hooks.say(f"the budget left this job and what follows it: {job['gpu']}, {', '.join(job['rules'])}")
                break
            hooks.say(f"joining: {job['gpu']}, {', '.join(job['ops'])} of {', '.join(job['rules'])}")
            request = Request(
                gpu=find_gpu(job["gpu"]), ops=job["ops"], rules=job["rules"], dtypes=job["dtypes"], dims=job["dims"],
                jobs=jobs, out=out or default_out(), cache=compiled_folder(), budget=None if math.isinf(left) else left,
                device=device, storage=url, trials=job["trials"],
            )  # fmt: skip
            reports.append(tune(request, hooks))
    return reports


def _gpu(name: str) -> Gpu:
    try:
        return find_gpu(name)
    except ValueError as error:
        raise TableError(f"a job in that storage: {error}") from None
