"""The compiled functions of a fit: searches, residuals and derivatives.

Shapes: variables z and parameters x are (k,), or (rows, k) where this is said.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rbn_jax.fitting.objective import Objective
from rbn_jax.numerics.batches import map_batches
from rbn_jax.numerics.minimise import Minima, minimise, no_minima

# the arrays of the problems in a batch should fit into a CPU's cache; an accelerator needs many
# problems to be busy
_CPU_BATCH_BYTES = 2**18
_LARGEST_CPU_BATCH = 256
_ACCELERATOR_BATCH_SIZE = 8192


def batch_size(objective: Objective, n_problems: int) -> int:
    """Return the number of searches that are worked on at once."""
    if jax.default_backend() == "cpu":
        largest = min(max(_CPU_BATCH_BYTES // objective.problem_bytes, 1), _LARGEST_CPU_BATCH)
    else:
        largest = _ACCELERATOR_BATCH_SIZE
    return min(n_problems, largest)


@jax.jit
def search(
    objective: Objective,
    starts: Array,
    problems: Array,
    by_reach: bool | Array,
    first: Array | int,
    stop: Array | int,
    minima: Minima,
) -> Minima:
    """Search in some problems, and put the ends in `minima`.

    The problems of all rows are numbered row after row: each is a row and one of the starts
    (n_starts, k). Those in `problems` at positions from `first` to before `stop` are solved.

    by_reach: as in `minimise`
    """
    objective, starts, problems = jax.tree.map(jnp.asarray, (objective, starts, problems))
    n_starts = len(starts)

    def row(position: Array) -> Objective:
        return objective.select_rows(problems[position] // n_starts)

    return minimise(
        lambda position, z: row(position).evaluate(z),
        lambda position: starts[problems[position] % n_starts],
        objective.variables.box,
        lambda position, cost: row(position).tolerance(cost),
        by_reach,
        objective.max_steps,
        (first, stop),
        minima,
        batch_size(objective, minima.cost.size),
    )


def search_at(objective: Objective, z: np.ndarray) -> Minima:
    """Search from one start z in an objective of one row."""
    minima = no_minima(z.size, 1, objective.dtype)
    return search(objective, z[None], np.zeros(1, int), False, 0, 1, minima)


@jax.jit
def values_and_squares(objective: Objective, z: Array) -> tuple[Array, Array]:
    """Return the parameters x at z (rows, ..., k), and the sums of (target / sigma)^2 (rows,)."""
    return objective.variables.to_values(z), objective.squares(batch_ndim=1)


@jax.jit
def values_and_slopes(objective: Objective, x: Array) -> tuple[dict[str, Array], dict[str, Array]]:
    """Return the free and the tied parameters (rows,) at x (rows, k), by name.

    Their derivatives in x (rows, k) are returned too.
    """
    return jax.vmap(objective.values)(x), jax.vmap(jax.jacfwd(objective.values))(x)


@jax.jit
def curvature(objective: Objective, x: Array, free: Array) -> tuple[Array, Array]:
    """Return what the data tell about the parameters x (rows, k).

    That is R (rows, k, k) of the QR decomposition of the Jacobian of the residuals in x, with
    R^T R = J^T J, or the Hessian of a loss; and for which parameters it is known (rows, k).

    free: (rows, k), others are left out, their columns are 0
    """
    objective = jax.tree.map(jnp.asarray, objective)

    def curvature_of_row(number: Array, x: Array, free: Array) -> tuple[Array, Array]:
        row = objective.select_rows(number)
        is_loss = row.loss is not None
        derivative = jax.hessian(row.cost) if is_loss else jax.jacfwd(row.residuals)
        # without the barrier XLA would compute the derivatives several times
        matrix = jax.lax.optimization_barrier(derivative(x))
        # elements in rows of parameters that are left out may be NaN
        is_finite = jnp.isfinite(jnp.where(free, matrix, 0))
        known = free & is_finite.all(1 if is_loss else 0)
        matrix = jnp.where(known, matrix, 0)
        if is_loss:
            return jnp.where(known[:, None], matrix, 0), known
        # rows of zeros, so that R has k rows for any number of residuals
        n_missing = max(len(x) - len(matrix), 0)
        return jnp.linalg.qr(jnp.pad(matrix, ((0, n_missing), (0, 0))), mode="r"), known

    numbers = jnp.arange(len(x))
    return map_batches(curvature_of_row, batch_size(objective, len(x)), numbers, x, free)


@jax.jit
def predictions(objective: Objective, x: Array) -> dict[str, Array]:
    """Return what fn returns at x (rows, k), by name."""
    return map_batches(objective.predict, batch_size(objective, len(x)), x)
