"""`verify explain`: where the error budget of a problem comes from."""

from __future__ import annotations

from typing import Annotated

import typer

from ..commandline import Device, TargetOption, kernels_of, known, prepare, stdout, usage
from ..report import print_shares
from ..targets import OWN


def explain(
    token: Annotated[str, typer.Argument(help="A replay token, or a problem token for the first kernel.")],
    target: TargetOption = OWN,
) -> None:
    """Print the error budget of a problem, output by output and rounding site by site."""
    prepare(Device.interpreter)

    from ...results.calibration import tau
    from ..case import Replay
    from ..explain import explain as shares_of

    kernels = kernels_of(target)
    try:
        wanted = Replay.parse(token if "@" in token else f"error@{next(iter(kernels))}[-]@{token}")
        known("kernel", [wanted.kernel], kernels)
        shares, threshold = shares_of(kernels[wanted.kernel], wanted.case), tau()
    except ValueError as error:
        usage(str(error))
    print_shares(stdout, shares, threshold)
