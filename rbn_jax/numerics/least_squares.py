"""Levenberg and Marquardt's method, lean enough to run in batches of thousands.

Each step solves (J^T J + lam D) step = -J^T r, D the diagonal of J^T J (Marquardt 1963, doi
10.1137/0111030): the scale of a coordinate does not matter. A step that lowers the cost is
taken, and lam falls by 10; else lam rises by 10. J is taken in the parameters x and multiplied
by dx/du, so that the gradient and J^T J in x at the end come for free.

optimistix.LevenbergMarquardt damps by lam alone and solves by QR: on PSP traces it takes twice
the steps and 10 times as long (benchmarks/results/fitting.md).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

_FIRST, _LEAST, _MOST = 1e-1, 1e-10, 1e14  # of lam
_FAR = 2.0  # no coordinate moves further at once, beside its own size: x flattens at its bounds


class Point(NamedTuple):
    """Where the method is: coordinates, parameters x and dx/du, cost, and derivatives in x."""

    u: Any
    x: Any
    scale: Any
    cost: Any
    slope: Any
    normal: Any


def minimise(
    residuals: Callable[[Any], Any],
    to_user: Callable[[Any], tuple[Any, Any]],
    reach: tuple[Any, Any],
    start: Any,
    steps: int,
    tolerance: float,
    nothing: Any,
) -> tuple[Point, Any]:
    """Least r.r/2 over coordinates u (k,), from start.

    Args:
        residuals: r of the parameters x.
        to_user: x of u, and dx/du, 0 for a parameter that stays.
        reach: the least and the greatest u, (k,) each.
        start: the first u.
        steps: at most so many.
        tolerance: it ends where a full step promises to lower the cost by this share,
        nothing: or by less than this.

    Returns:
        The end, and the cost at the start; from where that is NaN it goes nowhere.
    """

    def evaluate(u: Any) -> Point:
        x, scale = to_user(u)
        r, push = jax.linearize(residuals, x)
        j = jax.vmap(push, out_axes=1)(jnp.eye(len(u), dtype=u.dtype))
        return Point(u, x, scale, 0.5 * (r @ r), j.T @ r, j.T @ j)

    def go_on(state: tuple[Any, ...]) -> Any:
        i, here, lam, (_, promised) = state
        enough = promised * (1 + lam) <= tolerance * here.cost + nothing
        return (i < steps) & ~enough & (lam < _MOST)

    def step(state: tuple[Any, ...]) -> tuple[Any, ...]:
        i, here, lam, (way, _) = state
        far = _FAR + jnp.abs(here.u)  # each on its own: one that leans on a bound holds none up
        there = evaluate(jnp.clip(here.u + jnp.clip(way, -far, far), *reach))
        better = there.cost <= here.cost
        here = jax.tree.map(lambda a, b: jnp.where(better, a, b), there, here)
        lam = jnp.where(better, jnp.maximum(0.1 * lam, _LEAST), 10 * lam)
        return i + 1, here, lam, _step(here, lam)

    first = evaluate(start)
    lam = jnp.asarray(_FIRST, start.dtype)
    end = jax.lax.while_loop(go_on, step, (0, first, lam, _step(first, lam)))[1]
    return end, first.cost


def _step(here: Point, lam: Any) -> tuple[Any, Any]:
    """The step in u, and by how much it promises to lower the cost."""
    both = jnp.outer(here.scale, here.scale)  # 0 where one stays, where J may be infinite
    slope = jnp.where(here.scale > 0, here.slope * here.scale, 0)
    normal = jnp.where(both > 0, here.normal * both, 0)
    diagonal = jnp.diagonal(normal)
    unit = 1 / jnp.sqrt(jnp.where(diagonal > 0, diagonal, 1))
    scaled = normal * jnp.outer(unit, unit)
    factor = jnp.linalg.cholesky(scaled + jnp.diag(jnp.where(diagonal > 0, lam, 1)))
    way = -jax.scipy.linalg.cho_solve((factor, True), slope * unit)
    promised = -(slope * unit) @ way - 0.5 * (way @ scaled @ way)
    return way * unit, promised
