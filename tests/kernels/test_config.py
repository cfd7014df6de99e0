"""Launch configurations: the token says everything, and nothing wrong can be built."""

from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltaproof.kernels.configs.launch_config import STAGES, LaunchConfig, Tile, kernel_of
from deltaproof.results.schema.token import chunk_size_of, fault, variant_of

tiles = st.builds(
    Tile,
    block=st.sampled_from([16, 32, 64, 128, 256]),
    num_warps=st.sampled_from([1, 2, 4, 8, 16]),
    num_stages=st.integers(1, 5),
)


def config(variant: Literal["split", "packed", "fused"], group: int, **settings: Any) -> LaunchConfig:
    return LaunchConfig(variant=variant, group=group if variant == "packed" else 0, **settings)


configs = st.builds(
    config,
    variant=st.sampled_from(["split", "packed", "fused"]),
    group=st.sampled_from([0, 1, 2, 16, 1024]),
    chunk_size=st.sampled_from([16, 32, 64, 128]),
    solver=st.sampled_from(["ieee", "tf32x3", "tf32"]),
    **dict.fromkeys(STAGES, tiles),
)


@given(configs)
def test_token_round_trip(config: LaunchConfig):
    assert LaunchConfig.parse(config.token) == config
    assert (variant_of(config.token), chunk_size_of(config.token)) == (config.variant, config.chunk_size)
    assert (kernel_of("chunk_fwd", config.token) == "chunk_fwd/grouped") == bool(config.group)


@pytest.mark.parametrize(
    ("token", "complaint"),
    [
        ("c48", "chunk_size=48"),
        ("c64,solver=bf16", "solver='bf16'"),
        ("c64,walk=64x4x2", "no setting 'walk'"),
        ("c64,states=63x4x2", "block=63"),
        ("c64,states=64x4", "is not block x warps x depth"),
        ("", "it begins with the chunk size"),
        ("64", "it begins with the chunk size"),
        ("c064", "it begins with the chunk size"),
        ("c+64", "it begins with the chunk size"),
        ("c64,states=+64x4x2", "is not block x warps x depth"),
        ("c64,states=64x4x2,states=64x4x2", "states is repeated"),
        ("c64,variant=packed,variant=fused", "variant is repeated"),
        ("c64,variant=packed,group=48", "group=48"),
        ("c64,variant=packed,group=2048", "group=2048"),
        ("c64,variant=packed,group=-2", "is not a number of chunks"),
        ("c64,variant=packed,group=0", "is not a number of chunks"),
        ("c64,variant=packed,group=many", "is not a number of chunks"),
        ("c64,variant=packed,group=2,group=2", "group is repeated"),
        ("c64,group=16", "group=16 with variant=split"),
    ],
)
def test_bad_tokens_say_what_is_wrong(token: str, complaint: str):
    with pytest.raises(ValueError, match="not the token of a launch configuration") as error:
        LaunchConfig.parse(token)
    assert complaint in str(error.value)
    assert "\n" not in str(error.value)


@given(
    st.from_regex(r"c(16|48|64)(,(states=(8|16|48|64)x[1-4]x1|variant=(packed|x)|group=[1-4])){0,2}", fullmatch=True)
)
def test_a_table_takes_the_tokens_of_configurations_and_no_others(token: str):
    if fault(token) is None:
        assert set(LaunchConfig.parse(token).token.split(",")) <= set(token.split(","))
    else:
        with pytest.raises(ValueError, match="not the token of a launch configuration"):
            LaunchConfig.parse(token)
