"""Roots of many small systems by damped Newton steps, with derivatives of every order."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.custom_batching import custom_vmap
from jax.experimental.custom_partitioning import custom_partitioning
from jax.sharding import Mesh, NamedSharding

from rbn_jax.numerics.arrays import broadcast_any_rank
from rbn_jax.numerics.batches import solve_batches
from rbn_jax.numerics.elimination import eliminate
from rbn_jax.numerics.stability import is_stable

# systems in one batch: a CPU keeps them in its cache, an accelerator needs many to be busy
# (measured in benchmarks/results/h200/rates.md)
_CPU_BATCH_SIZE = 256
_ACCELERATOR_BATCH_SIZE = 8192
# Newton steps from one start
MAX_STEPS = 30
# the longest step of a component x; for a component larger than this, |x|
LARGEST_STEP = 2.0
# Two roots are the same if no component differs by more, relative to max(|x|, 1). It is the same in
# float32 and float64, which find the same roots only then.
SAME_ROOT = 0.02
# where several roots are known others may be near: then a search ends nearer to one of them
NEAR_AMONG_SEVERAL = 0.1
# the largest systems that a search solves by written out elimination: compiling takes long
_LARGEST_UNROLLED = 4

Residual = Callable[[Array, Any], Array]
Search = Callable[[Array], Array]
Starts = tuple[tuple[float, ...], ...]
Result = TypeVar("Result")


@dataclasses.dataclass(frozen=True)
class Comparison:
    """How many starts are searched from before the lowest stable root is returned.

    A root is stable if the relaxation dx/dt = residual(x) towards it is; see
    `stability.is_stable`. Of two roots that are both stable, or both not, the lower one has the
    lower first component.

    always: number of starts that are always searched from
    ambiguous: number of starts where these did not all lead to the same stable root, or to a high
        one
    high: the least first component of a high root
    near: a search that comes as near to a known stable root ends, relative to max(|x|, 1). That
        saves two thirds of the steps of most searches, and misses roots that are as near. With 0
        every search goes on to its end
    """

    always: int
    ambiguous: int
    high: float = math.inf
    near: float = 1.0


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
    return _select_root(residual, starts, None, args, batch_ndim)[0]


def lowest_stable_root(
    residual: Residual,
    starts: Starts,
    comparison: Comparison,
    args: object,
    batch_ndim: int = 1,
) -> tuple[Array, Array, Array]:
    """Return the lowest stable one of the roots to which several starts lead.

    Arguments are those of `root`, and how many starts are compared. A search that comes near
    a stable root that is known ends there.

    Returns:
        x (m, *batch), where no root that was found is stable the lowest root, and NaN where
        none was found; (*batch) whether x is stable; (*batch) whether several roots were found.

    -1 and 1 are stable, and 0 is not:

    >>> comparison = Comparison(always=2, ambiguous=2)
    >>> starts = ((0.1,), (-2.0,))
    >>> x, stable, several = lowest_stable_root(
    ...     lambda x, a: a * (x - x**3), starts, comparison, jnp.ones((1, 1))
    ... )
    >>> print(x, stable, several)
    [[-1.]] [ True] [ True]
    """
    x, flags = _select_root(residual, starts, comparison, args, batch_ndim)
    stable, several = flags > 0.5
    return x, stable, several


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1, 2, 4))
def _select_root(
    residual: Residual,
    starts: Starts,
    comparison: Comparison | None,
    args: object,
    batch_ndim: int,
) -> tuple[Array, Array]:
    """Return x (m, *batch), and as numbers 0 or 1 whether it is stable and one of several."""
    packed, unpack = _pack(args, batch_ndim)

    def packed_residual(x: Array, columns: Array) -> Array:
        return residual(x, unpack(columns))

    rows = _batched_search(packed_residual, starts, comparison, batch_ndim)(packed)
    return rows[:-2], rows[-2:]


def map_batch(function: Callable[..., Result], batch_ndim: int) -> Callable[..., Result]:
    """Return a function of arrays (..., systems) as one of arrays (..., *batch).

    vmap adds the other axes of the batch, since to merge them with that of the systems would move
    systems between devices.
    """
    for _ in range(batch_ndim - 1):
        function = jax.vmap(function, in_axes=-2, out_axes=-2)
    return function


@_select_root.defjvp
@broadcast_any_rank
def _select_root_jvp(
    residual: Residual,
    starts: Starts,
    comparison: Comparison | None,
    batch_ndim: int,
    primals: tuple[object],
    tangents: tuple[object],
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """Solve J dx = -(d residual/d args) d args, by the implicit function theorem."""

    def solve(x: Array, args: object, args_tangent: object) -> Array:
        _, change = jax.jvp(functools.partial(residual, x), (args,), (args_tangent,))
        return _solve(linearised(residual, x, args)[1], -change)

    x, flags = _select_root(residual, starts, comparison, *primals, batch_ndim)
    x_tangent = map_batch(solve, batch_ndim)(x, *primals, *tangents)
    return (x, flags), (x_tangent, jnp.zeros_like(flags))


def _batched_search(
    residual: Residual, starts: Starts, comparison: Comparison | None, batch_ndim: int
) -> Search:
    """Return the search of roots for packed args (rows, *batch), with a rule for vmap.

    The result (m + 2, *batch) is that of `_search`.

    batch_ndim: the number of axes of systems
    """

    @custom_vmap
    def search(packed: Array) -> Array:
        return _partitioned_search(residual, starts, comparison, batch_ndim)(packed)

    @search.def_vmap
    def search_batch(size: int, batched: list[bool], packed: Array) -> tuple[Array, bool]:
        # The mapped axis becomes a further axis of systems. It is not merged with the others
        # here, as that would move systems between devices: `_search` merges them on each device.
        search_all = _batched_search(residual, starts, comparison, batch_ndim + 1)
        return jnp.moveaxis(search_all(jnp.moveaxis(packed, 0, -1)), -1, 0), True

    return search


def _partitioned_search(
    residual: Residual, starts: Starts, comparison: Comparison | None, batch_ndim: int
) -> Search:
    """Return the search as an operation that XLA divides among devices along axes of systems.

    In the loop of `_search` any system may follow any other one, so XLA on its own would gather
    all systems on all devices.
    """
    has_x64 = jnp.result_type(float) == np.float64

    # jit keeps constants, such as nodes of an integral, inside: custom_partitioning takes none
    @jax.jit
    def search(packed: Array) -> Array:
        search_with = functools.partial(_search, residual, starts, comparison)
        on_cpu = functools.partial(search_with, _CPU_BATCH_SIZE)
        if default_is_cpu():  # saves the time to trace the search for accelerators
            return on_cpu(packed)
        on_accelerator = functools.partial(search_with, _ACCELERATOR_BATCH_SIZE)
        return lax.platform_dependent(packed, cpu=on_cpu, default=on_accelerator)

    def partition(
        mesh: Mesh, args: object, roots: jax.ShapeDtypeStruct
    ) -> tuple[Mesh, Search, NamedSharding, tuple[NamedSharding]]:
        def search_on_device(packed: Array) -> Array:
            # XLA may trace this in a thread that does not see the settings of the caller's thread.
            # JAX 0.8 would add shardings of the caller's mesh, which one device has no use for.
            no_mesh = jax.sharding.AbstractMesh((), ())
            with (
                jax.enable_x64(has_x64),
                jax.numpy_rank_promotion("allow"),
                jax.sharding.use_abstract_mesh(no_mesh),
            ):
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


class _SearchState(NamedTuple):
    """The searches of the systems in the slots of a batch; the slots are the last axis.

    x: (m, slots) the point that is reached
    start, steps: number of the start, and of Newton steps from it
    best: (m, slots) the root that is selected so far, NaN if none is found
    has_best, stable: whether a root is found; whether `best` is stable
    several: whether several roots are found
    lost: whether a search has led to no root, nor near the one that is known
    """

    x: Array
    start: Array
    steps: Array
    best: Array
    has_best: Array
    stable: Array
    several: Array
    lost: Array


def _search(
    residual: Residual,
    starts: Starts,
    comparison: Comparison | None,
    largest_batch: int,
    packed: Array,
) -> Array:
    """Return the selected roots, by Newton steps on at most `largest_batch` systems at once.

    The result is (m + 2, *batch): the root, and 0 or 1 for whether it is stable, and whether
    several were found. Without a comparison it is the first root, and both are 0.
    """
    rows, *batch = packed.shape
    count = math.prod(batch)
    packed = packed.reshape(rows, count)
    points = jnp.asarray(starts, packed.dtype)
    n_starts, m = points.shape
    results = jnp.full_like(packed, jnp.nan, shape=(m + 2, count))
    if not count:
        return results.reshape(m + 2, *batch)
    tolerance = root_tolerance(packed.dtype)

    def begin(systems: Array) -> _SearchState:
        zeros = jnp.zeros_like(systems)
        columns = jnp.zeros_like(results, shape=(m, systems.size))
        false = zeros > 0
        return _SearchState(
            x=columns + points[0][:, None],
            start=zeros,
            steps=zeros,
            best=columns * jnp.nan,
            has_best=false,
            stable=false,
            several=false,
            lost=false,
        )

    def advance(systems: Array, state: _SearchState) -> tuple[_SearchState, Array, Array]:
        x, start, steps, best, has_best, stable, several, lost = state
        columns = jnp.take(packed, systems, 1, mode="clip")
        value, jacobian = linearised(residual, x, columns)
        move = _solve_in_search(jacobian, -value)
        size = jnp.maximum(jnp.abs(x), 1)
        # the step must be small, too: at a fold, where two roots meet and vanish, small
        # residuals come with large steps. The small step makes x exact.
        is_root = (jnp.abs(value) < tolerance * size) & (jnp.abs(move) < tolerance**0.5 * size)
        is_root = is_root.all(0)
        # components far from 0, as logarithms of small rates, may take longer steps
        longest = jnp.maximum(LARGEST_STEP, size)
        x = x + move / jnp.maximum((jnp.abs(move) / longest).max(0), 1)
        has_failed = ~is_root & (~jnp.isfinite(x).all(0) | (steps >= MAX_STEPS))
        if comparison is None:
            better = is_root
            n_searched = jnp.where(is_root, 0, n_starts)
        else:
            root_stable = _stable_where(is_root, jacobian)
            distance = jnp.abs(x - best) / size
            # a search that comes near the stable root that is known would end there
            radius = comparison.near * jnp.where(several, NEAR_AMONG_SEVERAL, 1.0)
            is_near = stable & ~is_root & (distance < radius).all(0)
            lost |= has_failed & ~is_near
            has_failed |= is_near
            is_other = is_root & has_best & (distance >= SAME_ROOT).any(0)
            lower = x[0] < best[0]
            better = is_other & jnp.where(root_stable == stable, lower, root_stable)
            better |= is_root & ~has_best
            several |= is_other
            stable = jnp.where(better, root_stable, stable)
            is_high = jnp.where(better, x[0], best[0]) >= comparison.high
            is_clear = stable & ~several & ~lost & ~is_high
            n_searched = jnp.where(is_clear, comparison.always, comparison.ambiguous)
            n_searched = jnp.where(has_best | is_root, n_searched, n_starts)
        best = jnp.where(better, x, best)
        has_best |= is_root
        has_ended = is_root | has_failed
        start = jnp.where(has_ended, start + 1, start)
        next_state = _SearchState(
            # an index outside the array gives the last start
            x=jnp.where(has_ended, points[start].T, x),
            start=start,
            steps=jnp.where(has_ended, 0, steps + 1),
            best=best,
            has_best=has_best,
            stable=stable,
            several=several,
            lost=lost,
        )
        flags = jnp.stack([stable, several]).astype(x.dtype)
        finished = has_ended & (start >= n_searched)
        return next_state, finished, jnp.concatenate([best, flags])

    results = solve_batches(begin, advance, results, (0, count), min(count, largest_batch))
    return results.reshape(m + 2, *batch)


def root_tolerance(dtype: np.dtype) -> float:
    """Return the largest residual that counts as 0, relative to max(|x|, 1).

    Rounding errors of sums are smaller.
    """
    return 1e-9 if dtype == np.float64 else 5e-4


def _stable_where(selected: Array, jacobian: Array) -> Array:
    """Return `is_stable` for the selected systems; what it is for others does not count."""
    if len(jacobian) <= _LARGEST_UNROLLED:
        return is_stable(jacobian)
    # large matrices take an iteration, which is left out in steps that find no root
    return lax.cond(selected.any(), is_stable, lambda jacobian: selected & False, jacobian)


def default_is_cpu() -> bool:
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


def _solve_in_search(matrices: Array, right_sides: Array) -> Array:
    """Return what `_solve` returns, for small systems by elimination with pivots.

    It takes a twentieth of the time of QR, which LAPACK computes matrix by matrix.
    """
    m = len(matrices)
    if m > _LARGEST_UNROLLED:
        return _solve(matrices, right_sides)
    rows, _ = eliminate([[*matrices[i], right_sides[i]] for i in range(m)])
    solution = [right_sides[0]] * m
    for i in reversed(range(m)):
        rest = rows[i][m]
        for j in range(i + 1, m):
            rest = rest - rows[i][j] * solution[j]
        solution[i] = rest / rows[i][i]
    return jnp.stack(solution)


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
