"""GPUs by name, and that the limits which ship with `results` are those of `specs`."""

from __future__ import annotations

import pytest

from deltaproof.autotune.records.gpu_facts import PATH, document
from deltaproof.results.schema.gpus import Gpu, identify, known_gpus, resolve
from deltaproof.specs.gpus import gpus
from deltaproof.verify.ptx.architectures import ARCHITECTURES
from deltaproof.verify.ptx.device import SimulatedDriver


def test_the_limits_are_those_of_the_specification():
    assert PATH.read_text(encoding="utf-8") == document(), "run: make gpus"
    assert list(known_gpus()) == list(gpus())
    for slug, ours in known_gpus().items():
        theirs = gpus()[slug]
        assert ours == Gpu(
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
    names = [name.casefold() for gpu in known_gpus().values() for name in (gpu.slug, *gpu.aliases)]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("properties", "slug"),
    [
        (("sm_90", 132, 79.2), "h100-sxm"),
        (("sm_90", 132, 139.8), "h200-sxm"),
        (("sm_90", 114, 79.2), "h100-pcie"),
        (("sm_80", 108, 79.3), "a100-sxm"),
        (("sm_80", 108, 39.5), None),
        (("sm_89", 142, 44.4), "l40s"),
        (("gfx942", 304, 191.9), "mi300x"),
        (("sm_75", 40, 15.0), None),
    ],
)
def test_a_device_is_known_by_what_it_is(properties: tuple, slug: str | None):
    found = identify(*properties)
    assert (found and found.slug) == slug


def test_a_simulated_gpu_has_the_shared_memory_of_its_architecture():
    limits = {gpu.arch: gpu.shared_per_block for gpu in known_gpus().values()}
    simulated = {f"sm_{arch}": SimulatedDriver(arch).utils.get_device_properties(0) for arch in ARCHITECTURES}
    assert {"sm_80", "sm_89", "sm_90"} <= limits.keys() & simulated.keys()
    for arch in limits.keys() & simulated.keys():
        assert simulated[arch]["max_shared_mem"] == limits[arch]
