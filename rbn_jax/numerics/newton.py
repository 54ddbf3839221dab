"""Roots of many small systems by damped Newton steps, with derivatives of every order."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.custom_batching import custom_vmap

_LANES, _LANES_OF_ACCELERATORS = 256, 8192  # of a GPU: benchmarks/results/h200/rates.md
_STEPS = 30
_LARGEST_STEP = 2.0

Residual = Callable[[Array, Any], Array]


def _tolerance(dtype: Any) -> float:
    """The largest residual at a root, by max(|x|, 1): what rounding leaves of sums."""
    return 1e-9 if dtype == np.float64 else 5e-4


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def root(residual: Residual, starts: tuple[tuple[float, ...], ...], args: Any) -> Array:
    """x, (m, B), with residual(x, args) = 0 from the first of the starts that leads to one.

    residual takes x as (m, B) and args whose leaves end in the axis of B systems; each system
    depends on its own column alone. Where no start leads to a root x is NaN. Derivatives in
    args are those of the implicit function, of any order, forward and reverse.

    Under vmap all systems become columns of one call.
    """

    @custom_vmap
    def found(args: Any) -> Array:
        few = functools.partial(_searched, residual, starts, _LANES)
        if _on_cpu():  # the other need not be traced
            return few(args)
        many = functools.partial(_searched, residual, starts, _LANES_OF_ACCELERATORS)
        return lax.platform_dependent(args, cpu=few, default=many)

    @found.def_vmap
    def _(size: int, batched: Any, args: Any) -> tuple[Array, bool]:
        def merged(x: Array, own: bool) -> Array:
            x = x if own else jnp.broadcast_to(x, (size, *x.shape))
            return jnp.moveaxis(x, 0, -1).reshape(*x.shape[1:-1], x.shape[-1] * size)

        x = root(residual, starts, jax.tree.map(merged, args, batched[0]))
        return jnp.moveaxis(x.reshape(len(x), x.shape[1] // max(size, 1), size), -1, 0), True

    return found(args)


@root.defjvp
def _(residual: Residual, starts: Any, primals: Any, tangents: Any) -> Any:
    (args,), (moved,) = primals, tangents
    x = root(residual, starts, args)
    _, change = jax.jvp(lambda a: residual(x, a), (args,), (moved,))
    return x, solved(linearised(residual, x, args)[1], -change)


def _searched(residual: Residual, starts: Any, most: int, args: Any) -> Array:
    """The roots, by Newton steps on at most so many systems at once.

    One that is finished makes place for the next: none waits for the slowest.
    """
    first = jax.tree.leaves(args)[0]
    count, dtype = first.shape[-1], first.dtype
    lanes, points = min(count, most), jnp.asarray(starts, dtype)
    if not count:
        return jnp.zeros((points.shape[1], 0), dtype)
    packed, unpacked = _packed(args)

    def step(state: Any) -> Any:
        place, fresh, x, tried, steps, found = state
        value, slopes = linearised(residual, x, unpacked(jnp.take(packed, place, 1, mode="clip")))
        move, size = solved(slopes, -value), jnp.maximum(jnp.abs(x), 1)
        small = _tolerance(dtype)
        # and this step, a small one, makes it exact; at a fold a small residual has a large step
        done = ((jnp.abs(value) < small * size) & (jnp.abs(move) < small**0.5 * size)).all(0)
        longest = jnp.maximum(_LARGEST_STEP, size)  # silent rates have far to go
        x = x + move / jnp.maximum((jnp.abs(move) / longest).max(0), 1)
        lost = ~done & (~jnp.isfinite(x).all(0) | (steps >= _STEPS))
        over = (done | (lost & (tried + 1 >= len(points)))) & (place < count)
        found = found.at[:, place].set(jnp.where(done, x, jnp.nan), mode="drop")
        rank = (over & before).sum(1, dtype=place.dtype)
        tried = jnp.where(over, 0, jnp.where(lost, tried + 1, tried))
        again = over | lost
        return (
            jnp.where(over, fresh + rank, place),
            fresh + over.sum(dtype=fresh.dtype),
            jnp.where(again, points[tried].T, x),
            tried,
            jnp.where(again, 0, steps + 1),
            found,
        )

    place, zeros = jnp.arange(lanes, dtype=np.int32), jnp.zeros(lanes, np.int32)
    before = place < place[:, None]
    start = jnp.broadcast_to(points[0][:, None], (points.shape[1], lanes))
    found = jnp.full((points.shape[1], count), jnp.nan, dtype)
    state = (place, jnp.array(lanes, place.dtype), start, zeros, zeros, found)
    return lax.while_loop(lambda state: state[1] < count + lanes, step, state)[-1]


def _on_cpu() -> bool:
    """Whether a CPU is where JAX computes what is not elsewhere."""
    chosen = jax.config.jax_default_device  # pyright: ignore[reportAttributeAccessIssue]
    return (getattr(chosen, "platform", chosen) or jax.default_backend()) == "cpu"


def linearised(residual: Residual, x: Array, args: Any) -> tuple[Array, Array]:
    """The residual (m, B) and its Jacobian (m, m, B)."""
    value, push = jax.linearize(lambda y: residual(y, args), x)
    unit = jnp.eye(len(x), dtype=x.dtype)[..., None] * jnp.ones_like(x)
    return value, jax.vmap(push, out_axes=1)(unit)


def solved(matrix: Array, right: Array) -> Array:
    """The solutions (m, B) of B systems (m, m, B)."""
    q, r = lax.linalg.qr(jnp.moveaxis(matrix, -1, 0), full_matrices=False)
    turned = jnp.einsum("bji,jb->bi", q, right)[..., None]
    return lax.linalg.triangular_solve(r, turned, left_side=True)[..., 0].T


def _packed(args: Any) -> tuple[Array, Callable[[Array], Any]]:
    """All of args as one array (rows, systems), to take columns from, and args of such columns."""
    leaves, tree = jax.tree.flatten(args)
    rows = [leaf.reshape(-1, leaf.shape[-1]) for leaf in leaves]
    ends = np.cumsum([len(x) for x in rows])[:-1]

    def unpacked(columns: Array) -> Any:
        parts = zip(jnp.split(columns, ends), leaves, strict=True)
        return tree.unflatten([part.reshape(*leaf.shape[:-1], -1) for part, leaf in parts])

    return jnp.concatenate(rows), unpacked
