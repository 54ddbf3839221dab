"""Many independent problems in batches: a loop in which none waits for another, and a map."""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

State = TypeVar("State")


def solve_batches(
    begin: Callable[[Array], State],
    advance: Callable[[Array, State], tuple[State, Array, Array]],
    results: Array,
    problems: tuple[int | Array, int | Array],
    batch_size: int,
) -> Array:
    """Return the results of many problems, of which `batch_size` are worked on at once.

    A problem that is finished is replaced in the batch by the next one.

    Args:
        begin: the states of problems, by their numbers (slots,), before the first step. A slot
            without a problem has a number that is too large: take the state of any problem.
        advance: one step. It takes the numbers and states, and returns the states, which slots
            are finished (slots,), and what is known of their results (m, slots). In a state, a
            pytree of arrays, the slots are along the last axis.
        results: (m, n_problems), in which the results are put.
        problems: the number of the first problem, and that after the last one.
        batch_size: number of slots.
    """
    first, stop = problems
    # What is made like the results varies among the devices of a shard_map, as what `advance`
    # returns does. The loop demands this of its first state, too.
    zeros = jnp.zeros_like(results, dtype=np.int32, shape=(batch_size,))
    slots = zeros + jnp.arange(batch_size, dtype=np.int32)
    # [i, j]: whether slot j comes before slot i
    is_earlier = slots < slots[:, None]

    def step(loop: tuple[Array, Array, State, Array]) -> tuple[Array, Array, State, Array]:
        numbers, next_number, state, results = loop
        state, finished, values = advance(numbers, state)
        has_problem = numbers < stop
        finished &= has_problem
        # a number outside the array is dropped
        place = jnp.where(has_problem, numbers, results.shape[1])
        results = results.at[:, place].set(values, mode="drop")
        # finished slots take the next problems in turn
        rank = (finished & is_earlier).sum(1, dtype=numbers.dtype)
        numbers = jnp.where(finished, next_number + rank, numbers)
        next_number += finished.sum(dtype=next_number.dtype)
        state = jax.tree.map(
            lambda fresh, old: jnp.where(finished, fresh, old), begin(numbers), state
        )
        return numbers, next_number, state, results

    numbers = first + slots
    loop = (numbers, numbers[0] + batch_size, begin(numbers), results)
    # until all slots are without a problem
    return lax.while_loop(lambda loop: loop[1] < stop + batch_size, step, loop)[-1]


def map_batches(function: Callable[..., Any], batch_size: int, *arrays: Array) -> Any:
    """Return function(*elements) for the elements along the first axis of arrays.

    The function is mapped over `batch_size` elements at once, whose arrays then fit into a cache.
    """
    count = len(arrays[0])
    if not count:
        return jax.vmap(function)(*arrays)
    # The last batch is filled up with the first elements. lax.map(batch_size=) would compile the
    # function once more, for the remainder.
    numbers = jnp.resize(jnp.arange(count), (-(-count // batch_size), batch_size))
    batches = [array[numbers] for array in arrays]
    results = lax.map(lambda batch: jax.vmap(function)(*batch), batches)
    return jax.tree.map(lambda array: array.reshape(-1, *array.shape[2:])[:count], results)
