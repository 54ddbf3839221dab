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
    assert (seen == 1).all()


@given(
    st.lists(st.integers(1, 9), max_size=4),
    st.none() | st.integers(1, 50),
    st.integers(1, 20),
    st.booleans(),
)
def test_tasks_hold_every_block_once(sizes, block_size, shards, grouped):
    blocks = plan_blocks(tuple(sizes), 16, block_size, shards, grouped)
    tasks = [blocks.task_blocks(task) for task in range(blocks.task_count)]
    assert [block for task in tasks for block in task] == list(range(blocks.count))
    assert sum(map(blocks.task_points, range(blocks.task_count))) == math.prod(sizes)


@given(
    st.lists(st.integers(1, 50), min_size=1, max_size=4),
    st.integers(1, 20),
    st.integers(1, 2**24),
    st.booleans(),
)
def test_every_shard_has_work(sizes, shards, point_bytes, grouped):
    blocks = plan_blocks(tuple(sizes), point_bytes, None, shards, grouped)
    points = math.prod(sizes)
    assert math.prod(blocks.shape) <= max(points // shards, 1)
    assert blocks.task_count >= min(shards, points)
