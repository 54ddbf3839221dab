"""The kernels of a fit, compiled: minimisers, residuals, derivatives, over rows of targets.

Shapes: u and x are (rows, starts, k) where data have rows, and (k,) where they have none.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rbn_jax._labels import require
from rbn_jax.fit.problem import Data, Problem

TOLERANCE = {"float32": 1e-5, "float64": 1e-9}
# a singular value below this share of the largest is 0 up to rounding
NOTHING = {"float32": 1e-4, "float64": 1e-8}
Found = tuple[Any, Any, Any, Any]
"""Coordinates, parameters, cost, and whether the minimiser was done, at the end of each start."""


@functools.partial(jax.jit, static_argnames=("problem", "steps"))
def solve(problem: Problem, data: Data, u: Any, pinned: Any, steps: int) -> Found:
    """From every start; `pinned`, of the same shape, holds values that stay, NaN where free."""
    return _at_each(functools.partial(_solve, problem, steps), data, u, pinned)


def _solve(problem: Problem, steps: int, data: Data, start: Any, pinned: Any) -> Found:
    optx = require("optimistix", "fit")
    tolerance = TOLERANCE[problem.dtype]

    def at(u: Any) -> Any:
        return jnp.where(jnp.isnan(pinned), data.to_user(u), pinned)

    # the damping is unscaled: give it a cost of order 1
    size = jnp.abs(problem.cost(data, at(start)))
    scale = jnp.where((size > 0) & jnp.isfinite(size), 1 / size, 1)
    options = {"max_steps": steps, "throw": False}
    if problem.loss is None:
        solver = optx.LevenbergMarquardt(rtol=tolerance, atol=tolerance)

        def residuals(u: Any, _: Any) -> Any:
            return problem.residuals(data, at(u)) * jnp.sqrt(scale)

        found = optx.least_squares(residuals, solver, start, **options)
    else:
        solver = optx.BFGS(rtol=tolerance, atol=tolerance)

        def cost(u: Any, _: Any) -> Any:
            return problem.cost(data, at(u)) * scale

        found = optx.minimise(cost, solver, start, **options)
    x = at(found.value)
    return found.value, x, problem.cost(data, x), found.result == optx.RESULTS.successful


def _at_each(function: Any, data: Data, u: Any, pinned: Any) -> Any:
    """function(row of data, u, pinned) of every start of every row.

    In one vmap: two of them, nested, are traced twice as long.
    """
    rows, starts, k = u.shape

    def one(row: Any, u: Any, pinned: Any) -> Any:
        return function(data.rows(row), u, pinned)

    each = jnp.repeat(jnp.arange(rows), starts)
    found = jax.vmap(one)(each, u.reshape(-1, k), pinned.reshape(-1, k))
    return jax.tree.map(lambda y: y.reshape(rows, starts, *y.shape[1:]), found)


@functools.partial(jax.jit, static_argnames="problem")
def costs(problem: Problem, data: Data, u: Any) -> Any:
    """The cost at coordinates u."""
    return _at_each(lambda d, u, _: problem.cost(d, d.to_user(u)), data, u, u)


@functools.partial(jax.jit, static_argnames="problem")
def decrement(problem: Problem, data: Data, x: Any, pinned: Any) -> Any:
    """By how much one more step of Gauss and Newton promises to lower the cost at x.

    g^T H^-1 g / 2 over the parameters that are free, each scaled to a diagonal of 1, with a little
    added where the data leave a direction open; infinite where a loss is not convex.
    """
    return _at_each(functools.partial(_decrement, problem), data, x, pinned)


def _decrement(problem: Problem, data: Data, x: Any, pinned: Any) -> Any:
    slope, matrix = _normal(problem, data, x)
    diagonal = jnp.diagonal(matrix)
    used = jnp.isnan(pinned) & (diagonal > 0)
    unit = jnp.where(used, 1 / jnp.sqrt(jnp.where(used, diagonal, 1)), 0)
    ridge = 1e2 * NOTHING[problem.dtype] ** 2 + 1e2 * jnp.finfo(x.dtype).eps
    normal = matrix * jnp.outer(unit, unit) + jnp.diag(jnp.where(used, ridge, 1))
    promised = 0.5 * (slope * unit) @ jnp.linalg.solve(normal, slope * unit)
    return jnp.where(promised >= 0, promised, jnp.inf)


def _normal(problem: Problem, data: Data, x: Any) -> tuple[Any, Any]:
    """The gradient of the cost in x, and J^T J, or of a loss the Hessian."""
    if problem.loss is not None:
        return curvature(problem, data, x)
    r = problem.residuals(data, x)
    j = jacobian(problem, data, x)
    return j.T @ r, j.T @ j


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
def gradient(problem: Problem, data: Data, x: Any) -> Any:
    """The derivatives of the cost in x."""
    return _at_each(lambda d, x, _: _gradient(problem, d, x), data, x, x)


def _gradient(problem: Problem, data: Data, x: Any) -> Any:
    return jax.grad(functools.partial(problem.cost, data))(x)


@functools.partial(jax.jit, static_argnames="problem")
def sensitivity(problem: Problem, data: Data, x: Any, free: Any) -> dict[str, Any]:
    """dx/dtarget by the implicit function theorem, by name of the target, (k, ...).

    The gradient in x stays 0: dx/dt = -H^-1 d(grad)/dt, with the whole Hessian H; parameters
    that are not free do not move.
    """
    moved = jax.jacfwd(lambda t: _gradient(problem, data.to_target(t), x))(data.target)
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
    user = lambda z: np.where(log, np.exp(np.where(log, z, 0)), z)  # noqa: E731
    slope = lambda z: np.where(log, user(z), 1.0)  # noqa: E731
    found = []
    for u in starts:
        x = np.asarray(data.to_user(u))
        z = np.where(log, np.log(np.where(log, x, 1)), x)
        try:
            best = optimize.least_squares(
                lambda z: np.asarray(residuals(problem, data, user(z))),
                z,
                lambda z: np.asarray(jacobian(problem, data, user(z))) * slope(z),
                ends,
                x_scale="jac",
                **dict.fromkeys(("ftol", "xtol", "gtol"), 1e-12),
                max_nfev=steps,
            )
            x, cost, done = user(best.x), best.cost, best.status > 0
        except ValueError:  # the residuals are not finite
            cost, done = np.inf, False
        at = [c.from_user(y) for c, y in zip(data.coordinates, x, strict=True)]
        found.append((at, x, cost, done))
        bar.update(1)
    return tuple(map(np.array, zip(*found, strict=True)))  # pyright: ignore[reportReturnType]
