"""`autotune space`: how large the search space is."""

from __future__ import annotations

from ....verify.cli.options import stdout
from ..options import DimOption, DtypeOption, GpuOption, OpOption, RuleOption, gpu_of, selection


def space(
    gpu: GpuOption = "h100-sxm",
    op: OpOption = None,
    rule: RuleOption = None,
    dtype: DtypeOption = None,
    dim: DimOption = None,
) -> None:
    """Show the size of the search space, and how much each constraint removed."""
    target = gpu_of(gpu)
    ops, rules, dtypes, dims = selection(op, rule, dtype, dim)

    from ...reports.summary import print_space
    from ...space.points import enumerate_points, families

    print_space(stdout, [
        count for family in families(ops, rules, dtypes, dims) for count in enumerate_points(family, target.arch)[1]
    ])  # fmt: skip
