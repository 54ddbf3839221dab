"""The kernels of a fit, compiled: minimisers, residuals and their derivatives.

Shapes: u and x are (rows, starts, k) where data have rows, and (k,) where they have none.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rbn_jax.fitting.objective import Data, Problem
from rbn_jax.numerics.least_squares import minimise
from rbn_jax.parameters.optional import require

TOLERANCE = {"float32": 1e-5, "float64": 1e-9}  # of optimistix
_PROMISE = {"float32": 1e-6, "float64": 1e-12}  # share of the cost that ends Marquardt's method
ROUNDING = {"float32": 1e-6, "float64": 1e-10}  # share of a target below which a residual is 0
_LANES = 32  # fits that a CPU runs at once: what they hold stays in its cache
Found = tuple[Any, Any, Any, Any, Any, Any]
"""Coordinates, parameters, cost, its gradient and J^T J, or Hessian, in them; cost at the start."""


@functools.partial(jax.jit, static_argnames=("problem", "steps"))
def solve(problem: Problem, data: Data, u: Any, pinned: Any, steps: int) -> Found:
    """From every start; `pinned`, of the same shape, holds values that stay, NaN where free."""
    one = _least_squares if problem.loss is None else _own_loss
    return _at_each(functools.partial(one, problem, steps), data, u, pinned)


def lanes(count: int) -> int:
    """How many of so many fits run at once."""
    return min(count, _LANES) if jax.default_backend() == "cpu" else count


def _at_each(function: Any, data: Data, u: Any, pinned: Any) -> Any:
    """function(row of data, u, pinned) of every start of every row, some at once."""
    rows, starts = u.shape[:2]
    count = rows * starts
    together = lanes(count)

    def some(number: Any) -> Any:
        def one(number: Any) -> Any:
            row, start = number // starts, number % starts
            return function(data.rows(row), u[row, start], pinned[row, start])

        return jax.vmap(one)(number)

    numbers = jnp.resize(jnp.arange(count), (-(-count // together), together))
    found = jax.lax.map(some, numbers)
    return jax.tree.map(
        lambda y: y.reshape(-1, *y.shape[2:])[:count].reshape(rows, starts, *y.shape[2:]), found
    )


def _to_user(data: Data, u: Any, pinned: Any) -> tuple[Any, Any]:
    """x and dx/du, with those that are pinned."""
    x, slope = jax.jvp(data.to_user, (u,), (jnp.ones_like(u),))
    free = jnp.isnan(pinned)
    return jnp.where(free, x, pinned), jnp.where(free, slope, 0)


def _least_squares(problem: Problem, steps: int, data: Data, start: Any, pinned: Any) -> Found:
    least, most = jnp.asarray([c.reach for c in data.coordinates], start.dtype).T
    end, first = minimise(
        functools.partial(problem.residuals, data),
        lambda u: _to_user(data, u, pinned),
        (least, most),
        start,
        steps,
        _PROMISE[problem.dtype],
        1e-2 * nothing(problem, data.target, data.weight),
    )
    return end.u, end.x, end.cost, end.gradient, end.normal_matrix, first


def _own_loss(problem: Problem, steps: int, data: Data, start: Any, pinned: Any) -> Found:
    """By BFGS, finished by Newton's steps: a loss may be much larger than what it tells."""
    optx = require("optimistix", "fit")
    tolerance = TOLERANCE[problem.dtype]

    def cost(u: Any) -> Any:
        return problem.cost(data, _to_user(data, u, pinned)[0])

    # its tolerances are for numbers of order 1
    first, slope = jax.value_and_grad(cost)(start)
    size = jnp.sqrt(slope @ slope)
    scale = jnp.where((size > 0) & jnp.isfinite(size), 1 / size, 1)
    solver = optx.BFGS(rtol=tolerance, atol=tolerance)
    near = optx.minimise(
        lambda u, _: (cost(u) - first) * scale, solver, start, max_steps=steps, throw=False
    ).value

    def newton(_: Any, u: Any) -> Any:
        way = _newton(jax.grad(cost)(u), jax.hessian(cost)(u), jnp.full_like(u, jnp.nan))
        return jnp.where(cost(u - way) <= cost(u), u - way, u)

    u = jax.lax.fori_loop(0, min(steps, 6), newton, near)
    x = _to_user(data, u, pinned)[0]
    return u, x, problem.cost(data, x), *curvature(problem, data, x), first


def nothing(problem: Problem, target: Any, weight: Any, batch: int = 0) -> Any:
    """A cost that is nothing, of each batch: of residuals that are a rounding of their targets."""
    total = 0.0
    for name, w in weight.items():
        share = w * target[name]
        own = tuple(range(batch, share.ndim))
        total += (share * share).sum(own, where=share == share)  # a NaN was not measured
    return ROUNDING[problem.dtype] ** 2 * total


def unit_diagonal(matrix: Any, free: Any) -> tuple[Any, Any]:
    """A matrix (..., k, k) over the free parameters scaled to a diagonal of 1, and the scales.

    So the size of a parameter, or of the sigmas of what depends on it, does not matter. Rows and
    columns of the others, and of those on which nothing depends, are 0.
    """
    diagonal = jnp.diagonal(matrix, axis1=-2, axis2=-1)
    used = free & (diagonal > 0) & jnp.isfinite(diagonal)
    unit = jnp.where(used, 1 / jnp.sqrt(jnp.where(used, diagonal, 1)), 0)
    both = unit[..., :, None] * unit[..., None, :]
    return jnp.where(both > 0, matrix * both, 0), unit


def _newton(slope: Any, matrix: Any, pinned: Any) -> Any:
    """H^-1 g over the free parameters, a little added to H where it leaves a direction open."""
    scaled, unit = unit_diagonal(matrix, jnp.isnan(pinned))
    ridge = 1e2 * jnp.finfo(slope.dtype).eps
    eye = jnp.eye(slope.shape[-1], dtype=slope.dtype)
    scaled += eye * jnp.where(unit > 0, ridge, 1)[..., None, :]
    right = jnp.where(unit > 0, slope * unit, 0)
    return unit * jnp.linalg.solve(scaled, right[..., None])[..., 0]


@jax.jit
def decrement(slope: Any, matrix: Any, pinned: Any) -> Any:
    """By how much one more step of Newton's promises to lower the cost, g^T H^-1 g / 2.

    Infinite where a loss is not convex, or fn has no derivative.
    """
    diagonal = jnp.diagonal(matrix, axis1=-2, axis2=-1)
    smooth = jnp.all(jnp.isfinite(diagonal + slope) | ~jnp.isnan(pinned), -1)
    way = _newton(slope, matrix, pinned)
    promised = 0.5 * jnp.sum(jnp.where(way != 0, slope * way, 0), -1)
    return jnp.where(smooth & (promised >= 0), promised, jnp.inf)


@functools.partial(jax.jit, static_argnames="problem")
def residuals(problem: Problem, data: Data, x: Any) -> Any:
    """The weighted residuals at x (k,)."""
    return problem.residuals(data, x)


@functools.partial(jax.jit, static_argnames="problem")
def jacobian(problem: Problem, data: Data, x: Any) -> Any:
    """Their derivatives in x."""
    return jax.jacfwd(lambda x: problem.residuals(data, x))(x)


@functools.partial(jax.jit, static_argnames="problem")
def curvature(problem: Problem, data: Data, x: Any) -> tuple[Any, Any]:
    """The gradient and the Hessian of the cost in x."""
    cost = functools.partial(problem.cost, data)
    return jax.grad(cost)(x), jax.hessian(cost)(x)


@functools.partial(jax.jit, static_argnames="problem")
def sensitivity(problem: Problem, data: Data, x: Any, free: Any) -> dict[str, Any]:
    """dx/dtarget by the implicit function theorem, by name of the target, (k, ...).

    The gradient in x stays 0: dx/dt = -H^-1 d(grad)/dt, with the whole Hessian H; parameters
    that are not free do not move.
    """

    def slope(target: Any) -> Any:
        return jax.grad(functools.partial(problem.cost, data.to_target(target)))(x)

    moved = jax.jacfwd(slope)(data.target)
    hessian = curvature(problem, data, x)[1]
    both = free[:, None] & free[None, :]
    inverse = jnp.linalg.inv(jnp.where(both, hessian, jnp.eye(len(x), dtype=x.dtype)))
    inverse = jnp.where(both, inverse, 0)
    return {name: -jnp.tensordot(inverse, slope, 1) for name, slope in moved.items()}


def by_scipy(problem: Problem, data: Data, starts: np.ndarray, steps: int, bar: Any) -> Found:
    """The ends of (starts, k) by scipy's trust region with true bounds, on the scale z."""
    optimize = require("scipy.optimize", "fit")
    ends = np.array([c.ends for c in data.coordinates]).T
    log = np.array([c.log for c in data.coordinates])

    def user(z: np.ndarray) -> np.ndarray:
        return np.where(log, np.exp(np.where(log, z, 0)), z)

    found = []
    for u in starts:
        x = np.asarray(data.to_user(u))
        first = 0.5 * np.sum(np.square(residuals(problem, data, x)))
        z = np.where(log, np.log(np.where(log, x, 1)), x)
        try:
            best = optimize.least_squares(
                lambda z: np.asarray(residuals(problem, data, user(z))),
                z,
                lambda z: (
                    np.asarray(jacobian(problem, data, user(z))) * np.where(log, user(z), 1.0)
                ),
                ends,
                x_scale="jac",
                **dict.fromkeys(("ftol", "xtol", "gtol"), 1e-12),
                max_nfev=steps,
            )
            x, cost, j = user(best.x), best.cost, np.asarray(jacobian(problem, data, user(best.x)))
            slope_x, normal = j.T @ best.fun, j.T @ j
        except ValueError:  # the residuals are not finite
            cost, slope_x, normal = np.inf, np.zeros(len(u)), np.zeros((len(u), len(u)))
        at = [c.from_user(y) for c, y in zip(data.coordinates, x, strict=True)]
        found.append((at, x, cost, slope_x, normal, first))
        bar.update(1)
    return tuple(map(np.array, zip(*found, strict=True)))  # pyright: ignore[reportReturnType]
