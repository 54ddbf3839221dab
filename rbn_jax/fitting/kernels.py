"""The compiled functions of a fit: minimisers, residuals and derivatives.

Shapes: coordinates u and parameters x are (k,), or (rows, starts, k) where this is said.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rbn_jax.fitting.objective import Objective
from rbn_jax.numerics.least_squares import minimise
from rbn_jax.parameters.optional import require

# rtol and atol of optimistix' minimisers
OPTIMISTIX_TOLERANCE = {"float32": 1e-5, "float64": 1e-9}
# Marquardt's method stops where a step promises to lower the cost by less than this share
_COST_TOLERANCE = {"float32": 1e-6, "float64": 1e-12}
# a residual below this share of its target is rounding
_ROUNDING = {"float32": 1e-6, "float64": 1e-10}
# with more fits at once, their arrays no longer fit into a CPU's cache
_CPU_BATCH_SIZE = 32


class Endpoints(NamedTuple):
    """The ends of minimisations. Many have arrays that begin with (rows, starts).

    u, x: coordinates and parameters (k,)
    cost: half of chi-square, or the loss
    gradient: of the cost in the parameters (k,)
    hessian: J^T J of the residuals, or the Hessian of a loss, in the parameters (k, k)
    held: the values at which parameters are held (k,), NaN where they are free
    start_cost: the cost at the start
    """

    u: Any
    x: Any
    cost: Any
    gradient: Any
    hessian: Any
    held: Any
    start_cost: Any


@jax.jit
def minimise_from(objective: Objective, u: Array, held: Array) -> Endpoints:
    """Minimise from every start u (rows, starts, k).

    held: (rows, starts, k), the values at which parameters are held; NaN where they are free
    """
    minimise_one = _minimise_squares if objective.loss is None else _minimise_loss
    n_rows, n_starts, _ = u.shape
    count = n_rows * n_starts
    batch = batch_size(count)

    def minimise_number(number: Array) -> Endpoints:
        row, start = number // n_starts, number % n_starts
        row_objective = objective.select_rows(row)
        return minimise_one(row_objective, u[row, start], held[row, start])

    def unflatten(array: Array) -> Array:
        flat = array.reshape(-1, *array.shape[2:])[:count]
        return flat.reshape(n_rows, n_starts, *array.shape[2:])

    # the last batch is filled up with the first numbers: lax.map(batch_size=) would compile
    # the minimiser again for the remainder
    n_batches = -(-count // batch)
    numbers = jnp.resize(jnp.arange(count), (n_batches, batch))
    return jax.tree.map(unflatten, jax.lax.map(jax.vmap(minimise_number), numbers))


def batch_size(count: int) -> int:
    """Return how many of `count` fits run at once."""
    return min(count, _CPU_BATCH_SIZE) if jax.default_backend() == "cpu" else count


def _values_and_slopes(objective: Objective, held: Array, u: Array) -> tuple[Array, Array]:
    """Return x and dx/du, which is 0 for held parameters."""
    x, slope = jax.jvp(objective.to_values, (u,), (jnp.ones_like(u),))
    free = jnp.isnan(held)
    return jnp.where(free, x, held), jnp.where(free, slope, 0)


def _minimise_squares(objective: Objective, start: Array, held: Array) -> Endpoints:
    low, high = jnp.asarray([c.limits for c in objective.coordinates], start.dtype).T
    point, start_cost = minimise(
        objective.residuals,
        functools.partial(_values_and_slopes, objective, held),
        (low, high),
        start,
        objective.max_steps,
        _COST_TOLERANCE[objective.dtype],
        1e-2 * cost_floor(objective),
    )
    return Endpoints(
        u=point.u,
        x=point.x,
        cost=point.cost,
        gradient=point.gradient,
        hessian=point.normal_matrix,
        held=held,
        start_cost=start_cost,
    )


def _minimise_loss(objective: Objective, start: Array, held: Array) -> Endpoints:
    """Minimise by BFGS, then a few Newton steps.

    BFGS stops early when the loss has a large constant offset.
    """
    optx = require("optimistix", "fit")
    tolerance = OPTIMISTIX_TOLERANCE[objective.dtype]

    def cost(u: Array) -> Array:
        return objective.cost(_values_and_slopes(objective, held, u)[0])

    # optimistix' tolerances are absolute too: scale the loss to a gradient of length 1
    start_cost, gradient = jax.value_and_grad(cost)(start)
    length = jnp.sqrt(gradient @ gradient)
    scale = jnp.where((length > 0) & jnp.isfinite(length), 1 / length, 1)
    bfgs = optx.minimise(
        lambda u, _: (cost(u) - start_cost) * scale,
        optx.BFGS(rtol=tolerance, atol=tolerance),
        start,
        max_steps=objective.max_steps,
        throw=False,
    )

    def take_newton_step(_: int, u: Array) -> Array:
        all_free = jnp.full_like(u, jnp.nan)
        trial = u - _newton_step(jax.grad(cost)(u), jax.hessian(cost)(u), all_free)
        return jnp.where(cost(trial) <= cost(u), trial, u)

    u = jax.lax.fori_loop(0, min(objective.max_steps, 6), take_newton_step, bfgs.value)
    x = _values_and_slopes(objective, held, u)[0]
    gradient, hessian = gradient_and_hessian(objective, x)
    return Endpoints(u, x, objective.cost(x), gradient, hessian, held, start_cost)


def cost_floor(objective: Objective, batch_axes: int = 0) -> Any:
    """Return the cost that rounding alone makes, for each index of the first axes.

    It is that of residuals which are a rounding error of their targets.
    """
    squares = 0.0
    for name, weight in objective.weight.items():
        ratio = weight * objective.target[name]
        axes = tuple(range(batch_axes, ratio.ndim))
        # a loss is given targets with NaN where nothing was measured
        squares += (ratio * ratio).sum(axes, where=ratio == ratio)
    return _ROUNDING[objective.dtype] ** 2 * squares


def _newton_step(gradient: Array, hessian: Array, held: Array) -> Array:
    """Return H^-1 g over the free parameters, 0 for the others.

    H is scaled to a diagonal of 1: neither the size of a parameter nor the sigmas of the data
    that depend on it then affect the rounding.
    """
    diagonal = jnp.diagonal(hessian, axis1=-2, axis2=-1)
    used = jnp.isnan(held) & (diagonal > 0) & jnp.isfinite(diagonal)
    scale = jnp.where(used, 1 / jnp.sqrt(jnp.where(used, diagonal, 1)), 0)
    scales = scale[..., :, None] * scale[..., None, :]
    scaled = jnp.where(scales > 0, hessian * scales, 0)
    # a singular H, of a direction that the data leave open, becomes regular; for parameters
    # that do not move the diagonal is 1
    ridge = jnp.where(used, 1e2 * jnp.finfo(gradient.dtype).eps, 1)
    scaled += jnp.eye(gradient.shape[-1], dtype=gradient.dtype) * ridge[..., None, :]
    right = jnp.where(used, gradient * scale, 0)
    return scale * jnp.linalg.solve(scaled, right[..., None])[..., 0]


@jax.jit
def predicted_decrease(gradient: Array, hessian: Array, held: Array) -> Array:
    """Return g^T H^-1 g / 2, by which a Newton step would lower the cost.

    It is infinite where a loss is not convex, or fn has no derivative.
    """
    diagonal = jnp.diagonal(hessian, axis1=-2, axis2=-1)
    is_smooth = jnp.all(jnp.isfinite(diagonal + gradient) | ~jnp.isnan(held), -1)
    step = _newton_step(gradient, hessian, held)
    # where the step is 0 the gradient may be infinite
    decrease = 0.5 * jnp.sum(jnp.where(step != 0, gradient * step, 0), -1)
    return jnp.where(is_smooth & (decrease >= 0), decrease, jnp.inf)


@jax.jit
def residuals(objective: Objective, x: Array) -> Array:
    """Return the weighted residuals at x."""
    return objective.residuals(x)


@jax.jit
def jacobian(objective: Objective, x: Array) -> Array:
    """Return the derivatives of the weighted residuals in x."""
    return jax.jacfwd(objective.residuals)(x)


@jax.jit
def gradient_and_hessian(objective: Objective, x: Array) -> tuple[Array, Array]:
    """Return the gradient and the Hessian of the cost in x."""
    cost = objective.cost
    return jax.grad(cost)(x), jax.hessian(cost)(x)


@jax.jit
def sensitivity(objective: Objective, x: Array, free: Array) -> dict[str, Array]:
    """Return dx/dtarget (k, ...) at an optimum x, by name of the target.

    By the implicit function theorem: the gradient g in x stays 0, so dx/dt = -H^-1 dg/dt with
    the exact Hessian H. Parameters that are not free do not move.
    """

    def gradient(target: dict[str, Any]) -> Array:
        return jax.grad(dataclasses.replace(objective, target=target).cost)(x)

    target_slopes = jax.jacfwd(gradient)(objective.target)
    hessian = gradient_and_hessian(objective, x)[1]
    both_free = free[:, None] & free[None, :]
    # the identity stands in for parameters that are not free, so that H is regular
    regular = jnp.where(both_free, hessian, jnp.eye(len(x), dtype=x.dtype))
    inverse = jnp.where(both_free, jnp.linalg.inv(regular), 0)
    return jax.tree.map(lambda slope: -jnp.tensordot(inverse, slope, 1), target_slopes)


def minimise_by_scipy(objective: Objective, starts: np.ndarray, bar: Any) -> Endpoints:
    """Minimise from starts (starts, k) by SciPy's trust region; the result has one row.

    bar: a progress bar, updated after each start
    """
    endpoints = []
    for u in starts:
        endpoints.append(_minimise_one_by_scipy(objective, u))
        bar.update()
    return Endpoints._make(np.array(arrays)[None] for arrays in zip(*endpoints, strict=True))


def _minimise_one_by_scipy(objective: Objective, u: np.ndarray) -> Endpoints:
    """Minimise with true bounds, on the scale z of the coordinates."""
    optimize = require("scipy.optimize", "fit")
    log = np.array([c.log for c in objective.coordinates])
    bounds = np.array([c.scaled_bounds for c in objective.coordinates]).T

    def to_values(z: np.ndarray) -> np.ndarray:
        return np.exp(z, out=z.copy(), where=log)

    def scaled_residuals(z: np.ndarray) -> np.ndarray:
        return np.asarray(residuals(objective, to_values(z)))

    def scaled_jacobian(z: np.ndarray) -> np.ndarray:
        x = to_values(z)
        return np.asarray(jacobian(objective, x)) * np.where(log, x, 1.0)

    x = np.asarray(objective.to_values(jnp.asarray(u)))
    start_cost = 0.5 * np.sum(np.square(residuals(objective, x)))
    try:
        end = optimize.least_squares(
            scaled_residuals,
            np.log(x, out=x.copy(), where=log),
            scaled_jacobian,
            bounds,
            x_scale="jac",
            ftol=1e-12,
            xtol=1e-12,
            gtol=1e-12,
            max_nfev=objective.max_steps,
        )
        x, cost = to_values(end.x), end.cost
    except ValueError:
        # the residuals are not finite
        cost = np.inf
    slopes = jacobian(objective, x)
    return Endpoints(
        u=objective.from_values(x),
        x=x,
        cost=cost,
        gradient=residuals(objective, x) @ slopes,
        hessian=slopes.T @ slopes,
        held=np.full_like(u, np.nan),
        start_cost=start_cost,
    )
