"""The chunk table: every token in one chunk, in order, and no chunk across a boundary."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from deltaproof.kernels.arguments.layout import even_layout, even_sequences, make_layout


@given(lengths=st.lists(st.integers(0, 70), min_size=1, max_size=6), chunk_size=st.sampled_from([16, 32, 64]))
def test_chunks_tile_the_sequences(lengths: list[int], chunk_size: int):
    boundaries = [sum(lengths[:i]) for i in range(len(lengths) + 1)]
    layout = make_layout(torch.tensor(boundaries), boundaries[-1], chunk_size)
    first = layout.first_chunk.tolist()
    chunks = layout.chunks.tolist()
    for n, length in enumerate(lengths):
        mine = chunks[first[n] : first[n + 1]]
        assert sum(rows for _, rows in mine) == length
        expected = [boundaries[n] + i * chunk_size for i in range(len(mine))]
        assert [start for start, _ in mine] == expected
        assert all(0 < rows <= chunk_size for _, rows in mine)
    assert all(rows == 0 for _, rows in chunks[first[-1] :])


@given(batch=st.integers(1, 4), length=st.integers(0, 70), chunk_size=st.sampled_from([16, 32, 64]))
def test_equally_long_sequences_have_the_same_chunks_by_either_way(batch: int, length: int, chunk_size: int):
    boundaries = even_sequences(batch, length, torch.device("cpu"))
    assert boundaries.tolist() == [n * length for n in range(batch + 1)]
    general = make_layout(boundaries, batch * length, chunk_size)
    even = even_layout(batch, length, chunk_size, boundaries.device)
    assert torch.equal(even.cu_seqlens, boundaries)
    assert torch.equal(even.first_chunk, general.first_chunk)
    count = even.chunks.shape[0]
    assert torch.equal(even.chunks, general.chunks[:count])
    assert not general.chunks[count:, 1].any()
