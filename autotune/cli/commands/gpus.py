"""`autotune gpus`: the GPUs that are known, where each comes from, and the entry to write for another."""

from __future__ import annotations

import typer

from ....specs.gpus import gpu as find_gpu
from ....specs.gpus import gpus as read_gpus
from ....specs.gpus import shipped
from ....verify.cli.options import stdout
from ..options import device_here, errors, usage

_EXAMPLE = """\
[gpus.l40]                     # a GPU of your own; a name from the list above is overridden
aliases = ["L40", "NVIDIA L40"]  # may be left out
arch = "sm_89"                 # one of the list above, or an [architectures.NAME] in the same file
sm_count = 142
memory_gib = 48                # as the device reports it, roughly
bandwidth_gbs = 864
bf16_tflops = 181              # dense, tensor cores
fp32_tflops = 90.5
l2_mib = 96
clock_mhz = 2490"""


def gpus() -> None:
    """List the GPUs that are known and where each comes from, check your own file of GPUs, and show an example of an entry."""
    from ....results.files.user_folder import gpus_file, user_folder
    from ....results.schema.gpus import identify, known_gpus
    from ....verify.report.grid import grid, show

    try:
        found, path = read_gpus(), gpus_file()
    except ValueError as error:
        usage(str(error))
    with errors():
        limits = known_gpus()
    assert list(limits) == sorted(found)
    own = set() if path is None else {slug for slug, gpu in found.items() if shipped().get(slug) != gpu}
    table = grid("name", "architecture", "SMs", "GiB", "from")
    for slug, gpu in found.items():
        place = "deltaproof" if slug not in own else "your file, overridden" if slug in shipped() else "your file"
        table.add_row(slug, gpu.arch.name, str(gpu.sm_count), str(gpu.memory_gib), place)
    show(stdout, table)
    if path is not None:
        stdout.print(f"your file: {path}", soft_wrap=True, markup=False)
    device = device_here()
    if device is not None:
        known = identify(device.arch, device.sm_count, device.memory_gib, device.name)
        what = f"it is {find_gpu(known.slug).slug}" if known else "not known; it reports:"
        stdout.print(f"\nhere: {device.name}, {what}", soft_wrap=True, markup=False)
        if known is None:
            from ...timing.describe import describe

            stdout.print(describe(device), soft_wrap=True, markup=False)
    else:
        place = path or user_folder() / "gpus.toml"
        lines = f"\nTo add one, write it into {place}, or the file that DELTAPROOF_GPUS names:\n"
        stdout.print(lines, soft_wrap=True, markup=False)
        stdout.print(_EXAMPLE, soft_wrap=True, markup=False)
    raise typer.Exit(0)
