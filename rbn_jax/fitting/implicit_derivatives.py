"""The optimum as a JAX function of the targets, differentiable by the implicit function theorem."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from rbn_jax.fitting.kernels import TOLERANCE
from rbn_jax.fitting.objective import Data, Problem
from rbn_jax.fitting.profile import start_at
from rbn_jax.parameters.optional import require


def refit(result: Any, problem: Problem, data: Data, target: Any) -> dict[str, Any]:
    """The values of the free parameters, traced; parameters on a bound stay there."""
    optx = require("optimistix", "fit")
    given = target if isinstance(target, dict) else {next(iter(data.target)): target}
    shapes = {name: np.shape(x) for name, x in data.target.items()}
    if {name: jnp.shape(x) for name, x in given.items()} != shapes:
        raise ValueError(f"target: must have the names and shapes {shapes}")
    given = {name: jnp.asarray(x, problem.dtype) for name, x in given.items()}
    pinned = np.array(
        [
            value if name in result.at_bound else np.nan
            for name, value in zip(problem.names, result._best, strict=True)
        ]
    )
    start = jnp.asarray(start_at(problem, data, result._best))

    def at(u: Any) -> Any:
        return jnp.where(np.isnan(pinned), data.to_user(u), np.nan_to_num(pinned))

    def residuals(u: Any, target: Any) -> Any:
        return problem.residuals(data.to_target(target), at(u))

    if problem.loss is not None:
        raise ValueError("refit is for least squares; sensitivity() is there for any loss")
    tolerance = TOLERANCE[problem.dtype]
    solver = optx.LevenbergMarquardt(rtol=tolerance, atol=tolerance)
    found = optx.least_squares(residuals, solver, start, args=given, max_steps=200, throw=False)
    return dict(zip(problem.names, at(found.value), strict=True))
