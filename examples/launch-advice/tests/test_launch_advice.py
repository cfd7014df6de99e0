"""The table answers, and nothing heavy is imported."""

import sys

from launch_advice import Model, advice

KDA = Model(rule="kda", heads=32, head_dim=128)


def test_a_gpu_with_a_table():
    assert "compiled for this architecture" in advice(KDA, "NVIDIA H100 80GB HBM3", longest=8192)


def test_a_gpu_without_one():
    assert advice(KDA, "A GPU of tomorrow", longest=8192).endswith("the safe default (default)")


def test_the_one_for_all_sizes():
    small = Model(rule="kda", heads=1, head_dim=128)
    assert "one for all sizes and GPUs" in advice(small, "A100", longest=16)


def test_no_torch_was_imported():
    advice(KDA, "H100", longest=100)
    assert "torch" not in sys.modules
