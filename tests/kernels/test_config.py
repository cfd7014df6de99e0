"""Launch configurations: the token says everything, and nothing wrong can be built."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltaproof.kernels.configs.launch_config import STAGES, LaunchConfig, Tile

tiles = st.builds(
    Tile,
    block=st.sampled_from([16, 32, 64, 128, 256]),
    num_warps=st.sampled_from([1, 2, 4, 8, 16]),
    num_stages=st.integers(1, 5),
)
configs = st.builds(
    LaunchConfig,
    chunk_size=st.sampled_from([16, 32, 64, 128]),
    solver=st.sampled_from(["ieee", "tf32x3", "tf32"]),
    **dict.fromkeys(STAGES, tiles),
)


@given(configs)
def test_token_round_trip(config: LaunchConfig):
    assert LaunchConfig.parse(config.token) == config


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
        ("c64,states=64x4x2,states=64x4x2", "states is there twice"),
        ("c64,variant=packed,variant=fused", "variant is there twice"),
    ],
)
def test_bad_tokens_say_what_is_wrong(token: str, complaint: str):
    with pytest.raises(ValueError, match="not the token of a launch configuration") as error:
        LaunchConfig.parse(token)
    assert complaint in str(error.value)
    assert "\n" not in str(error.value)
