"""GPUs by name, and that the limits which ship with `results` are those of `specs`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltaproof.autotune.records.gpu_facts import PATH, document
from deltaproof.results import lookup
from deltaproof.results.schema.gpus import KnownGpu, identify, known_gpus, resolve
from deltaproof.specs.gpus import gpus
from deltaproof.verify.ptx.architectures import ARCHITECTURES
from deltaproof.verify.ptx.device import SimulatedDriver


def test_the_limits_are_those_of_the_specification():
    assert PATH.read_text(encoding="utf-8") == document(), "run: make gpus"
    assert list(known_gpus()) == list(gpus())
    for slug, ours in known_gpus().items():
        theirs = gpus()[slug]
        assert ours == KnownGpu(
            slug=slug,
            arch=theirs.arch.name,
            sm_count=theirs.sm_count,
            memory_gib=theirs.memory_gib,
            shared_per_block=theirs.arch.shared_per_block,
            registers_per_block=theirs.arch.registers_per_block,
            aliases=theirs.aliases,
        )


def test_every_name_is_one_gpu():
    for gpu in known_gpus().values():
        for name in (gpu.slug, *gpu.aliases, gpu.slug.upper(), gpu.slug.replace("-", " ")):
            assert resolve(name) is gpu
    names = [name for gpu in known_gpus().values() for name in gpu.names]
    assert sorted(set(names)) == sorted(names)


NAMED = st.sampled_from([(gpu, name) for gpu in known_gpus().values() for name in (gpu.slug, *gpu.aliases)])


@given(NAMED, st.floats(0.93, 1.07))
def test_a_device_with_the_properties_and_a_name_of_a_gpu_is_that_gpu(named: tuple[KnownGpu, str], reported: float):
    gpu, name = named
    assert identify(gpu.arch, gpu.sm_count, reported * gpu.memory_gib, name) is gpu


@given(st.sampled_from(list(known_gpus().values())), NAMED)
def test_a_name_never_outweighs_the_properties(gpu: KnownGpu, named: tuple[KnownGpu, str]):
    found = identify(gpu.arch, gpu.sm_count, gpu.memory_gib, named[1])
    assert found is not None and (found.arch, found.sm_count) == (gpu.arch, gpu.sm_count)
    assert identify(gpu.arch, gpu.sm_count // 2, gpu.memory_gib / 2, named[1]) is None


@pytest.mark.parametrize("name", ["", "a board that nobody knows"])
@pytest.mark.parametrize(
    ("properties", "slug"),
    [
        (("sm_90", 132, 79.2), "h100-sxm"),
        (("sm_90", 132, 139.8), "h200-sxm"),
        (("sm_90", 132, 92.6), "h100-nvl"),
        (("sm_90", 132, 95.0), "gh200-96gb"),
        (("sm_90", 114, 79.2), "h100-pcie"),
        (("sm_90", 78, 95.0), "h20"),
        (("sm_80", 108, 79.3), "a100-sxm"),
        (("sm_80", 108, 39.4), "a100-sxm-40gb"),
        (("sm_80", 14, 4.75), None),
        (("sm_86", 72, 22.1), "a10"),
        (("sm_89", 142, 44.4), "l40s"),
        (("sm_89", 128, 23.6), "rtx-4090"),
        (("sm_100", 148, 178.4), "b200"),
        (("sm_103", 148, 268.6), "b300"),
        (("sm_120", 170, 31.4), "rtx-5090"),
        (("gfx942", 304, 191.9), "mi300x"),
        (("gfx942", 304, 255.9), "mi325x"),
        (("sm_75", 40, 15.0), None),
    ],
)
def test_a_device_of_an_unknown_name_is_known_by_what_it_is(
    properties: tuple[str, int, float], slug: str | None, name: str
):
    found = identify(*properties, name)
    assert (found and found.slug) == slug


@pytest.mark.parametrize(
    ("properties", "slugs"),
    [
        (("sm_90", 132, 139.8), {"NVIDIA H200": "h200-sxm", "NVIDIA H200 NVL": "h200-nvl"}),
        (("sm_89", 142, 47.5), {"NVIDIA L40S": "l40s", "NVIDIA RTX 6000 Ada Generation": "rtx-6000-ada"}),
        (("sm_90", 132, 94.5), {"NVIDIA GH200 480GB": "gh200-96gb", "NVIDIA H100 NVL": "h100-nvl"}),
        (("sm_90", 132, 79.2), {"NVIDIA H100 80GB HBM3": "h100-sxm", "NVIDIA H800": "h100-sxm"}),
    ],
)
def test_gpus_of_equal_properties_are_told_apart_by_name(properties: tuple[str, int, float], slugs: dict[str, str]):
    assert {name: found.slug for name in slugs if (found := identify(*properties, name))} == slugs


@pytest.mark.parametrize("slug", known_gpus())
def test_a_lookup_knows_every_gpu(slug: str):
    gpu = known_gpus()[slug]
    call = {"rule": "gdn2", "dtype": "bf16", "K": 128, "V": 128, "tokens": 8192, "heads": 64, "triton": "3.7.1"}
    for name in (gpu.slug, *gpu.aliases):
        answer = lookup("chunk_fwd", gpu=name, **call)
        assert f"on {gpu.slug}: " in answer.reason
        assert (answer.tier == "default") == (gpu.arch not in ("sm_80", "sm_90"))


def test_a_simulated_gpu_has_the_shared_memory_of_its_architecture():
    limits = {gpu.arch: gpu.shared_per_block for gpu in known_gpus().values()}
    simulated = {f"sm_{arch}": SimulatedDriver(arch).utils.get_device_properties(0) for arch in ARCHITECTURES}
    assert {"sm_80", "sm_86", "sm_89", "sm_90"} <= limits.keys() & simulated.keys()
    for arch in limits.keys() & simulated.keys():
        assert simulated[arch]["max_shared_mem"] == limits[arch]
