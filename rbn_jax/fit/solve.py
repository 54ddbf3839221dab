"""The minimisers: optimistix over all starts at once, or SciPy one start after the other."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rbn_jax._labels import require
from rbn_jax.fit.problem import Data, Problem

TOLERANCE = {"float32": 1e-5, "float64": 1e-9}
Found = tuple[Any, Any, Any, Any]
"""Coordinates, parameters, cost, and whether it converged, at the end of each start."""


@functools.partial(jax.jit, static_argnames=("problem", "steps"))
def solve(problem: Problem, data: Data, u: Any, pinned: Any, steps: int) -> Found:
    """From every start u (starts, k); `pinned` (k,) holds values that stay, NaN where free."""
    return jax.vmap(lambda one: _solve(problem, data, one, pinned, steps))(u)


@functools.partial(jax.jit, static_argnames=("problem", "steps"))
def solve_rows(problem: Problem, data: Data, u: Any, pinned: Any, steps: int) -> Found:
    """The same for rows of targets: u (rows, starts, k), pinned (rows, k)."""
    one = functools.partial(solve, problem, steps=steps)
    along = Data(None, 0, 0)  # pyright: ignore[reportArgumentType]  # the axes of vmap
    return jax.vmap(one, in_axes=(along, 0, 0))(data, u, pinned)


def _solve(problem: Problem, data: Data, start: Any, pinned: Any, steps: int) -> Found:
    optx = require("optimistix", "fit")
    tolerance = TOLERANCE[problem.dtype]

    def at(u: Any) -> Any:
        return jnp.where(jnp.isnan(pinned), problem.to_user(u), pinned)

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


@functools.partial(jax.jit, static_argnames="problem")
def costs(problem: Problem, data: Data, u: Any) -> Any:
    """The cost at every start."""
    return jax.vmap(lambda one: problem.cost(data, problem.to_user(one)))(u)


@functools.partial(jax.jit, static_argnames="problem")
def residuals(problem: Problem, data: Data, x: Any) -> Any:
    """The weighted residuals at x."""
    return problem.residuals(data, x)


@functools.partial(jax.jit, static_argnames="problem")
def jacobian(problem: Problem, data: Data, x: Any) -> Any:
    """Their derivatives in x."""
    return jax.jacfwd(lambda x: problem.residuals(data, x))(x)


@functools.partial(jax.jit, static_argnames="problem")
def gradient(problem: Problem, data: Data, x: Any) -> Any:
    """The derivatives of the cost in x."""
    return jax.grad(lambda x: problem.cost(data, x))(x)


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
        return gradient(problem, Data(data.params, target, data.weight), x)

    moved = jax.jacfwd(slope)(data.target)
    hessian = curvature(problem, data, x)[1]
    both = free[:, None] & free[None, :]
    inverse = jnp.linalg.inv(jnp.where(both, hessian, jnp.eye(len(x), dtype=x.dtype)))
    inverse = jnp.where(both, inverse, 0)
    return {name: -jnp.tensordot(inverse, slope, 1) for name, slope in moved.items()}


def floor(data: Data) -> float:
    """A cost that is nothing: residuals of 1e-8 of the target."""
    parts = ((weight * np.nan_to_num(data.target[n])) for n, weight in data.weight.items())
    return 1e-16 * float(sum(np.sum(x * x) for x in parts))


def by_scipy(problem: Problem, data: Data, starts: np.ndarray, steps: int) -> Found:
    """The same from each start by scipy's trust region with true bounds, on the scale z."""
    optimize = require("scipy.optimize", "fit")
    ends = np.array([c.ends for c in problem.coordinates]).T
    log = np.array([c.log for c in problem.coordinates])
    user = lambda z: np.where(log, np.exp(np.where(log, z, 0)), z)  # noqa: E731
    slope = lambda z: np.where(log, user(z), 1.0)  # noqa: E731
    found = []
    for u in starts:
        x = np.asarray(problem.to_user(u))
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
        except ValueError:  # the residuals are not finite
            found.append((u, x, np.inf, False))
            continue
        found.append((u, user(best.x), best.cost, best.status > 0))
    u, x, cost, converged = map(np.array, zip(*found, strict=True))
    return u, x, cost, converged
