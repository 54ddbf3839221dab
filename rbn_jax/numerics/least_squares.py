"""Levenberg and Marquardt's method, lean enough to run in batches of thousands.

Each step solves (J^T J + damping D) step = -J^T r, D the diagonal of J^T J (Marquardt 1963, doi
10.1137/0111030): the scale of a coordinate does not matter. A step that does not raise the cost
is taken, and the damping falls by 10; otherwise it rises by 10. J is taken in the parameters x
and multiplied by dx/du, so that the gradient and J^T J in x at the end are known without more
evaluations.

optimistix.LevenbergMarquardt damps without D and solves by QR: on PSP traces it takes twice
the steps and 10 times as long (benchmarks/results/fitting.md).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

_FIRST_DAMPING = 1e-1
_SMALLEST_DAMPING = 1e-10
_LARGEST_DAMPING = 1e14
# a coordinate moves by at most this plus its size |u| in a step: far out, where x is near a
# bound and hardly changes with u, the search would not come back
_LARGEST_STEP = 2.0


class Point(NamedTuple):
    """A point of the search.

    u: coordinates (k,)
    x: parameters (k,)
    scale: dx/du (k,)
    cost: half the sum of the squared residuals
    gradient: J^T r in x (k,)
    normal_matrix: J^T J in x (k, k)
    """

    u: Array
    x: Array
    scale: Array
    cost: Array
    gradient: Array
    normal_matrix: Array


State = tuple[int | Array, Point, Array, tuple[Array, Array]]
"""Number of steps, point, damping, next step and the decrease of the cost that it predicts."""


def minimise(
    residuals: Callable[[Array], Array],
    to_parameters: Callable[[Array], tuple[Array, Array]],
    bounds: tuple[Array, Array],
    start: Array,
    max_steps: int,
    rtol: float,
    atol: float | Array,
) -> tuple[Point, Array]:
    """Minimise r.r/2 over coordinates u (k,), from start.

    Args:
        residuals: r of the parameters x.
        to_parameters: x of u, and dx/du, 0 for a parameter that is fixed.
        bounds: the smallest and the largest u, (k,) each.
        start: the first u.
        max_steps: number of steps at which the search ends.
        rtol, atol: it ends where an undamped step is predicted to lower the cost by less than
            rtol times the cost, plus atol.

    Returns:
        The last point, and the cost at the start; where that is NaN, the point is the start.

    >>> def residuals(x):
    ...     return x - jnp.array([1.0, 2.0])
    >>> bounds = jnp.full(2, -10.0), jnp.full(2, 10.0)
    >>> start = jnp.zeros(2)
    >>> end, _ = minimise(residuals, lambda u: (u, u * 0 + 1), bounds, start, 20, 1e-6, 1e-9)
    >>> end.x.round(3).tolist()
    [1.0, 2.0]
    """

    def evaluate(u: Array) -> Point:
        x, scale = to_parameters(u)
        r, derivative = jax.linearize(residuals, x)
        jacobian = jax.vmap(derivative, out_axes=1)(jnp.eye(len(u), dtype=u.dtype))
        normal_matrix = jacobian.T @ jacobian
        return Point(u, x, scale, 0.5 * (r @ r), jacobian.T @ r, normal_matrix)

    def goes_on(state: State) -> Array:
        count, point, damping, (_, decrease) = state
        # 1 + damping: about what an undamped step would gain over the damped one
        has_converged = decrease * (1 + damping) <= rtol * point.cost + atol
        return (count < max_steps) & ~has_converged & (damping < _LARGEST_DAMPING)

    def advance(state: State) -> State:
        count, point, damping, (step, _) = state
        # each coordinate has its own limit: one that is pushed against its bound by a long
        # step does not shorten the steps of the others
        limit = _LARGEST_STEP + jnp.abs(point.u)
        candidate = evaluate(jnp.clip(point.u + jnp.clip(step, -limit, limit), *bounds))
        # False also where the cost is NaN
        is_better = candidate.cost <= point.cost
        point = jax.tree.map(lambda new, old: jnp.where(is_better, new, old), candidate, point)
        damping = jnp.where(is_better, jnp.maximum(0.1 * damping, _SMALLEST_DAMPING), 10 * damping)
        return count + 1, point, damping, _damped_step(point, damping)

    first = evaluate(start)
    damping = jnp.asarray(_FIRST_DAMPING, start.dtype)
    state = (0, first, damping, _damped_step(first, damping))
    return jax.lax.while_loop(goes_on, advance, state)[1], first.cost


def _damped_step(point: Point, damping: Array) -> tuple[Array, Array]:
    """Return the step in u, and the decrease of the cost that it predicts."""
    scales = jnp.outer(point.scale, point.scale)
    # the scale of a fixed parameter is 0, but J may be infinite, and 0 times infinity is NaN
    gradient = jnp.where(point.scale > 0, point.gradient * point.scale, 0)
    normal_matrix = jnp.where(scales > 0, point.normal_matrix * scales, 0)
    diagonal = jnp.diagonal(normal_matrix)
    is_free = diagonal > 0
    # in units in which the diagonal is 1, D is the identity
    unit = 1 / jnp.sqrt(jnp.where(is_free, diagonal, 1))
    scaled_matrix = normal_matrix * jnp.outer(unit, unit)
    scaled_gradient = gradient * unit
    damped_matrix = scaled_matrix + jnp.diag(jnp.where(is_free, damping, 1))
    step = -jax.scipy.linalg.cho_solve((jnp.linalg.cholesky(damped_matrix), True), scaled_gradient)
    decrease = -scaled_gradient @ step - 0.5 * (step @ scaled_matrix @ step)
    return step * unit, decrease
