"""Roots of many small systems by damped Newton steps, with derivatives of every order."""

import functools
import math
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.custom_batching import custom_vmap
from jax.experimental.custom_partitioning import custom_partitioning
from jax.sharding import Mesh, NamedSharding

from rbn_jax.numerics.batches import solve_batches

# systems in one batch: a CPU keeps them in its cache, an accelerator needs many to be busy
# (measured in benchmarks/results/h200/rates.md)
_CPU_BATCH_SIZE = 256
_ACCELERATOR_BATCH_SIZE = 8192
# Newton steps from one start
_MAX_STEPS = 30
# the longest step of a component x; for a component larger than this, |x|
_LARGEST_STEP = 2.0

Residual = Callable[[Array, Any], Array]
Search = Callable[[Array], Array]
Starts = tuple[tuple[float, ...], ...]
Result = TypeVar("Result")


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1, 3))
def root(residual: Residual, starts: Starts, args: object, batch_ndim: int = 1) -> Array:
    """Return x (m, *batch) with residual(x, args) = 0, from the first start that leads to a root.

    residual takes x as (m, systems) and args, a pytree of arrays whose last axis is that of the
    systems; each system depends on its own column alone. Here the last `batch_ndim` axes of args
    are the batch of systems. Every start has m numbers. Where no start leads to a root x is NaN.
    All leaves of args have one dtype. Derivatives with respect to args follow from the implicit
    function theorem: of any order, forward and reverse.

    One search works on the systems of all axes, and of those that vmap adds. If several devices
    share a batch, each device searches for the roots of its own systems.

    >>> print(root(lambda x, a: x * x - a, ((1.0,),), jnp.array([[4.0, 9.0]])).round(2))
    [[2. 3.]]
    """
    packed, unpack = _pack(args, batch_ndim)

    def packed_residual(x: Array, columns: Array) -> Array:
        return residual(x, unpack(columns))

    return _batched_search(packed_residual, starts, batch_ndim)(packed)


def map_batch(function: Callable[..., Result], batch_ndim: int) -> Callable[..., Result]:
    """Return a function of arrays (..., systems) as one of arrays (..., *batch).

    vmap adds the other axes of the batch, since to merge them with that of the systems would move
    systems between devices.
    """
    for _ in range(batch_ndim - 1):
        function = jax.vmap(function, in_axes=-2, out_axes=-2)
    return function


@root.defjvp
def _root_jvp(
    residual: Residual,
    starts: Starts,
    batch_ndim: int,
    primals: tuple[object],
    tangents: tuple[object],
) -> tuple[Array, Array]:
    """Solve J dx = -(d residual/d args) d args, by the implicit function theorem."""

    def solve(x: Array, args: object, args_tangent: object) -> Array:
        _, change = jax.jvp(functools.partial(residual, x), (args,), (args_tangent,))
        return _solve(linearised(residual, x, args)[1], -change)

    x = root(residual, starts, *primals, batch_ndim)
    return x, map_batch(solve, batch_ndim)(x, *primals, *tangents)


def _batched_search(residual: Residual, starts: Starts, batch_ndim: int) -> Search:
    """Return the search of roots (m, *batch) for packed args (rows, *batch), with a rule for vmap.

    batch_ndim: the number of axes of systems
    """

    @custom_vmap
    def search(packed: Array) -> Array:
        return _partitioned_search(residual, starts, batch_ndim)(packed)

    @search.def_vmap
    def search_batch(size: int, batched: list[bool], packed: Array) -> tuple[Array, bool]:
        # The mapped axis becomes a further axis of systems. It is not merged with the others
        # here, as that would move systems between devices: `_search` merges them on each device.
        search_all = _batched_search(residual, starts, batch_ndim + 1)
        return jnp.moveaxis(search_all(jnp.moveaxis(packed, 0, -1)), -1, 0), True

    return search


def _partitioned_search(residual: Residual, starts: Starts, batch_ndim: int) -> Search:
    """Return the search as an operation that XLA divides among devices along axes of systems.

    In the loop of `_search` any system may follow any other one, so XLA on its own would gather
    all systems on all devices.
    """
    has_x64 = jnp.result_type(float) == np.float64

    # jit keeps constants, such as nodes of an integral, inside: custom_partitioning takes none
    @jax.jit
    def search(packed: Array) -> Array:
        on_cpu = functools.partial(_search, residual, starts, _CPU_BATCH_SIZE)
        if _default_is_cpu():  # saves the time to trace the search for accelerators
            return on_cpu(packed)
        on_accelerator = functools.partial(_search, residual, starts, _ACCELERATOR_BATCH_SIZE)
        return lax.platform_dependent(packed, cpu=on_cpu, default=on_accelerator)

    def partition(
        mesh: Mesh, args: object, roots: jax.ShapeDtypeStruct
    ) -> tuple[Mesh, Search, NamedSharding, tuple[NamedSharding]]:
        def search_on_device(packed: Array) -> Array:
            # XLA may trace this in a thread that does not see the setting of the caller's thread.
            # JAX 0.8 would add shardings of the caller's mesh, which one device has no use for.
            no_mesh = jax.sharding.AbstractMesh((), ())
            with jax.enable_x64(has_x64), jax.sharding.use_abstract_mesh(no_mesh):
                return search(packed)

        # packed args and roots have one sharding: their first axis is whole, others are systems'
        return mesh, search_on_device, roots.sharding, (roots.sharding,)

    if jax.config.jax_disable_jit:  # pyright: ignore[reportAttributeAccessIssue]
        return search
    batch_axes = " ".join(f"batch{i}" for i in range(batch_ndim))
    partitioned = custom_partitioning(search)
    partitioned.def_partition(
        partition,
        sharding_rule=f"row {batch_axes} -> unknown {batch_axes}",
        need_replication_factors=("row", "unknown"),
    )
    return partitioned


def _search(residual: Residual, starts: Starts, largest_batch: int, packed: Array) -> Array:
    """Return the roots (m, *batch), by Newton steps on at most `largest_batch` systems at once."""
    rows, *batch = packed.shape
    count = math.prod(batch)
    packed = packed.reshape(rows, count)
    points = jnp.asarray(starts, packed.dtype)
    roots = jnp.full_like(packed, jnp.nan, shape=(points.shape[1], count))
    if not count:
        return roots.reshape(len(roots), *batch)
    # the largest residual that counts as 0, relative to max(|x|, 1): rounding errors of sums
    tolerance = 1e-9 if packed.dtype == np.float64 else 5e-4

    def begin(systems: Array) -> tuple[Array, Array, Array]:
        zeros = jnp.zeros_like(systems)
        return (
            jnp.zeros_like(roots, shape=(len(roots), systems.size)) + points[0][:, None],
            zeros,
            zeros,
        )

    def advance(
        systems: Array, state: tuple[Array, Array, Array]
    ) -> tuple[tuple[Array, Array, Array], Array, Array]:
        x, start, steps = state
        columns = jnp.take(packed, systems, 1, mode="clip")
        value, jacobian = linearised(residual, x, columns)
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
        start = jnp.where(has_failed, start + 1, start)
        next_state = (
            jnp.where(has_failed, points[start].T, x),
            start,
            jnp.where(has_failed, 0, steps + 1),
        )
        return next_state, is_root | was_last, jnp.where(is_root, x, jnp.nan)

    roots = solve_batches(begin, advance, roots, (0, count), min(count, largest_batch))
    return roots.reshape(len(roots), *batch)


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


def _pack(args: object, batch_ndim: int) -> tuple[Array, Callable[[Array], object]]:
    """Return all leaves as one array (rows, *batch), and the inverse for columns (rows, systems).

    One gather of columns replaces one for each leaf.
    """
    leaves, tree = jax.tree.flatten(args)
    core_shapes = [leaf.shape[: leaf.ndim - batch_ndim] for leaf in leaves]
    rows = []
    for leaf, core_shape in zip(leaves, core_shapes, strict=True):
        rows.append(leaf.reshape(math.prod(core_shape), *leaf.shape[len(core_shape) :]))
    ends = np.cumsum([len(block) for block in rows])[:-1]

    def unpack(columns: Array) -> object:
        parts = []
        for block, core_shape in zip(jnp.split(columns, ends), core_shapes, strict=True):
            parts.append(block.reshape(*core_shape, columns.shape[-1]))
        return tree.unflatten(parts)

    return jnp.concatenate(rows), unpack
