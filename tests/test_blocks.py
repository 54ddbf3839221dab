"""How a sweep is split: every point once, blocks of whole chunks, on integers of any size."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rbn_jax.sweeps.blocks import plan_blocks


@given(
    st.lists(st.integers(1, 50) | st.integers(1, 10**25), max_size=5),
    st.integers(1, 5000),
    st.integers(1, 2**24),
)
def test_blocks_are_whole_chunks_and_no_larger_than_asked(sizes, block_size, point_bytes):
    blocks = plan_blocks(tuple(sizes), point_bytes, block_size)
    assert math.prod(blocks.shape) <= block_size
    assert all(a % b == 0 for a, b in zip(blocks.shape, blocks.chunk, strict=True))
    assert math.prod(blocks.grid) == blocks.count
    last = blocks.region(blocks.count - 1)
    assert tuple(part.stop for part in last) == tuple(sizes)


@given(st.lists(st.integers(1, 9), max_size=4), st.integers(1, 50))
def test_blocks_cover_every_point_once(sizes, block_size):
    blocks = plan_blocks(tuple(sizes), 16, block_size)
    seen = np.zeros(sizes, int)
    for number in range(blocks.count):
        seen[blocks.region(number)] += 1
        assert blocks.points(number) == seen[blocks.region(number)].size
    assert (seen == 1).all()
