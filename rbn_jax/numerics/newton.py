"""Roots of many small systems by damped Newton steps, with derivatives of every order."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.custom_batching import custom_vmap

# systems in one batch: a CPU keeps them in its cache, an accelerator needs many to be busy
# (measured in benchmarks/results/h200/rates.md)
_CPU_BATCH_SIZE = 256
_ACCELERATOR_BATCH_SIZE = 8192
# Newton steps from one start
_MAX_STEPS = 30
# the longest step of a component x; for a component larger than this, |x|
_LARGEST_STEP = 2.0

Residual = Callable[[Array, Any], Array]
Starts = tuple[tuple[float, ...], ...]


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def root(residual: Residual, starts: Starts, args: object) -> Array:
    """Return x (m, systems) with residual(x, args) = 0, from the first start that leads to a root.

    residual takes x as (m, systems) and args, a pytree of arrays whose last axis is that of the
    systems; each system depends on its own column alone. Every start has m numbers. Where no
    start leads to a root x is NaN. All leaves of args have one dtype. Derivatives with respect to
    args follow from the implicit function theorem: of any order, forward and reverse.

    Under vmap all systems become columns of one call.

    >>> print(root(lambda x, a: x * x - a, ((1.0,),), jnp.array([[4.0, 9.0]])).round(2))
    [[2. 3.]]
    """

    @custom_vmap
    def search(args: object) -> Array:
        on_cpu = functools.partial(_search, residual, starts, _CPU_BATCH_SIZE)
        if _default_is_cpu():  # saves the time to trace the search for accelerators
            return on_cpu(args)
        on_accelerator = functools.partial(_search, residual, starts, _ACCELERATOR_BATCH_SIZE)
        return lax.platform_dependent(args, cpu=on_cpu, default=on_accelerator)

    @search.def_vmap
    def search_batch(size: int, batched: list[Any], args: object) -> tuple[Array, bool]:
        def merge(leaf: Array, is_batched: bool) -> Array:
            if not is_batched:
                leaf = jnp.broadcast_to(leaf, (size, *leaf.shape))
            return jnp.moveaxis(leaf, 0, -1).reshape(*leaf.shape[1:-1], leaf.shape[-1] * size)

        # `batched` has one entry for each argument of `search`
        x = root(residual, starts, jax.tree.map(merge, args, batched[0]))
        x = x.reshape(len(x), x.shape[1] // max(size, 1), size)
        return jnp.moveaxis(x, -1, 0), True

    return search(args)


@root.defjvp
def _root_jvp(
    residual: Residual, starts: Starts, primals: tuple[object], tangents: tuple[object]
) -> tuple[Array, Array]:
    """Solve J dx = -(d residual/d args) d args, by the implicit function theorem."""
    (args,) = primals
    x = root(residual, starts, args)
    _, change = jax.jvp(functools.partial(residual, x), primals, tangents)
    return x, _solve(linearised(residual, x, args)[1], -change)


def _search(residual: Residual, starts: Starts, largest_batch: int, args: object) -> Array:
    """Return the roots (m, systems), by Newton steps on at most `largest_batch` systems at once.

    A finished system is replaced in the batch by the next one, so that none waits for the
    slowest.
    """
    leaf = jax.tree.leaves(args)[0]
    count = leaf.shape[-1]
    points = jnp.asarray(starts, leaf.dtype)
    roots = jnp.full((points.shape[1], count), jnp.nan, leaf.dtype)
    if not count:
        return roots
    packed, unpack = _pack(args)
    slots = jnp.arange(min(count, largest_batch), dtype=np.int32)
    # [i, j]: whether slot j comes before slot i
    is_earlier = slots < slots[:, None]
    # the largest residual that counts as 0, relative to max(|x|, 1): rounding errors of sums
    tolerance = 1e-9 if leaf.dtype == np.float64 else 5e-4

    def step(state: tuple[Array, ...]) -> tuple[Array, ...]:
        system, next_system, x, start, steps, roots = state
        batch = unpack(jnp.take(packed, system, 1, mode="clip"))
        value, jacobian = linearised(residual, x, batch)
        move = _solve(jacobian, -value)
        size = jnp.maximum(jnp.abs(x), 1)
        # the step must be small, too: at a fold, where two roots meet and vanish, small
        # residuals come with large steps. The small step makes x exact.
        is_root = (jnp.abs(value) < tolerance * size) & (jnp.abs(move) < tolerance**0.5 * size)
        is_root = is_root.all(0)
        # components far from 0, as logarithms of small rates, may take longer steps
        longest = jnp.maximum(_LARGEST_STEP, size)
        x = x + move / jnp.maximum((jnp.abs(move) / longest).max(0), 1)
        has_failed = ~is_root & (~jnp.isfinite(x).all(0) | (steps >= _MAX_STEPS))
        was_last = has_failed & (start + 1 >= len(points))
        # an index of `count` or more marks a slot without a system
        is_finished = (is_root | was_last) & (system < count)
        roots = roots.at[:, system].set(jnp.where(is_root, x, jnp.nan), mode="drop")
        # finished slots take the next systems in turn
        rank = (is_finished & is_earlier).sum(1, dtype=system.dtype)
        start = jnp.where(is_finished, 0, jnp.where(has_failed, start + 1, start))
        restarts = is_finished | has_failed
        return (
            jnp.where(is_finished, next_system + rank, system),
            next_system + is_finished.sum(dtype=next_system.dtype),
            jnp.where(restarts, points[start].T, x),
            start,
            jnp.where(restarts, 0, steps + 1),
            roots,
        )

    zeros = jnp.zeros_like(slots)
    x = jnp.broadcast_to(points[0][:, None], (len(roots), len(slots)))
    state = (slots, jnp.array(len(slots), slots.dtype), x, zeros, zeros, roots)
    # until all slots are without a system
    return lax.while_loop(lambda state: state[1] < count + len(slots), step, state)[-1]


def _default_is_cpu() -> bool:
    """Whether JAX computes on a CPU unless told otherwise."""
    device = jax.config.jax_default_device  # pyright: ignore[reportAttributeAccessIssue]
    return (getattr(device, "platform", device) or jax.default_backend()) == "cpu"


def linearised(residual: Residual, x: Array, args: object) -> tuple[Array, Array]:
    """Return the residual (m, systems) and its Jacobian (m, m, systems)."""
    value, derivative = jax.linearize(lambda x: residual(x, args), x)
    directions = jnp.eye(len(x), dtype=x.dtype)[..., None] * jnp.ones_like(x)
    return value, jax.vmap(derivative, out_axes=1)(directions)


def _solve(matrices: Array, right_sides: Array) -> Array:
    """Return the solutions (m, systems) of the linear systems (m, m, systems).

    By QR, which XLA compiles to fewer kernels than LU with its pivots.
    """
    q, r = lax.linalg.qr(jnp.moveaxis(matrices, -1, 0), full_matrices=False)
    rotated = jnp.einsum("bji,jb->bi", q, right_sides)[..., None]
    return lax.linalg.triangular_solve(r, rotated, left_side=True)[..., 0].T


def _pack(args: object) -> tuple[Array, Callable[[Array], object]]:
    """Return all leaves as one array (rows, systems), and the inverse for some of its columns.

    One gather of columns replaces one for each leaf.
    """
    leaves, tree = jax.tree.flatten(args)
    rows = [leaf.reshape(-1, leaf.shape[-1]) for leaf in leaves]
    ends = np.cumsum([len(block) for block in rows])[:-1]

    def unpack(columns: Array) -> object:
        parts = []
        for block, leaf in zip(jnp.split(columns, ends), leaves, strict=True):
            parts.append(block.reshape(*leaf.shape[:-1], -1))
        return tree.unflatten(parts)

    return jnp.concatenate(rows), unpack
