"""Is it right, and does its table still hold? On a CPU."""

import gla_walk.op
from gla_walk.kernel import gla_walk_kernel


def test_it_is_gated_linear_attention(deltaproof):
    """`deltaproof` is a fixture: the package brings a pytest plugin. Without `properties` it judges all."""
    deltaproof.check("gla-walk", rule="gla", properties=["equality", "memory", "offsets"])


def test_the_table_is_for_the_kernel_as_it_is():
    """An edit of the kernel makes the table stale; then `autotune --gpu H100 --target gla_walk:gla_walk` again."""
    assert gla_walk.op.use_table("NVIDIA H100 80GB HBM3") == len(gla_walk_kernel.cache) > 0
    assert gla_walk.op.use_table("another GPU") == 0
