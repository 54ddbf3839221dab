"""The optimum as a JAX function of the targets, differentiable by the implicit function theorem."""

from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import ArrayLike

from rbn_jax.fitting.kernels import OPTIMISTIX_TOLERANCE
from rbn_jax.fitting.objective import Objective
from rbn_jax.parameters.optional import require

if TYPE_CHECKING:
    from rbn_jax.fitting.result import FitResult


def refit(
    result: "FitResult",
    objective: Objective,
    target: ArrayLike | dict[str, ArrayLike],
) -> dict[str, Array]:
    """Return the values of the free parameters; those on a bound stay there."""
    optx = require("optimistix", "fit")
    targets = target if isinstance(target, dict) else {next(iter(objective.target)): target}
    shapes = {name: np.shape(array) for name, array in objective.target.items()}
    if {name: np.shape(array) for name, array in targets.items()} != shapes:
        raise ValueError(f"target: must have the names and shapes {shapes}")
    if objective.loss is not None:
        raise ValueError("refit is for least squares; sensitivity() is there for any loss")
    targets = {name: jnp.asarray(array, objective.dtype) for name, array in targets.items()}
    is_held = np.array([name in result.at_bound for name in objective.names])

    def to_values(u: Array) -> Array:
        return jnp.where(is_held, result._best, objective.to_values(u))

    def residuals(u: Array, targets: dict[str, Any]) -> Array:
        return objective.with_target(targets).residuals(to_values(u))

    # optimistix, unlike our own minimiser, has the implicit derivative of the optimum
    tolerance = OPTIMISTIX_TOLERANCE[objective.dtype]
    solution = optx.least_squares(
        residuals,
        optx.LevenbergMarquardt(rtol=tolerance, atol=tolerance),
        jnp.asarray(objective.from_values(result._best)),
        args=targets,
        max_steps=200,
        throw=False,
    )
    return dict(zip(objective.names, to_values(solution.value), strict=True))
