"""The function that a fit minimises: weighted residuals, or a loss of the user's own."""

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rbn_jax.fitting.free_parameters import Priors, Ties
from rbn_jax.numerics.minimise import Evaluation
from rbn_jax.numerics.robust import Robust, robust_residuals
from rbn_jax.numerics.variables import Variables, static_field
from rbn_jax.parameters.access import Parameters
from rbn_jax.parameters.labels import label_result

Dtype = Literal["float32", "float64"]
FittedFunction = Callable[[Any], Any]
"""Computes what is compared with the target from the parameters."""
Arrays = dict[str, np.ndarray]
"""Arrays by name."""
Loss = Callable[[Any, Any], Any]
"""Computes one number from the prediction and the target; JAX code."""

# costs with a smaller relative difference are of the same optimum
_COST_RTOL = 1e-6
# The decrease of the cost, as a share of it, at which a start counts as converged. In float32
# smaller ones are lost in rounding.
_CONVERGED_RTOL = {"float32": 1e-6, "float64": 1e-7}
# a residual below this share of its target is rounding
_ROUNDING = {"float32": 1e-6, "float64": 1e-10}


@contextlib.contextmanager
def fit_settings(dtype: Dtype) -> Iterator[None]:
    """Set JAX's options for what a fit computes.

    A start where fn is NaN is lost, and NaN marks what was not measured: neither is an error.
    """
    with (
        jax.enable_x64(dtype == "float64"),
        jax.debug_nans(False),
        jax.numpy_rank_promotion("allow"),
    ):
        yield


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Objective:
    """What a fit minimises, as a function of the free parameters x (k,).

    It is a pytree: functions, names and choices are static; the numbers are its leaves, so that
    a fit with other numbers is not compiled again.

    ties: (name, function of all values) of each tied parameter
    priors: (name, mean, standard deviation)
    parameters: those held fixed; the values of the free ones are replaced
    variables: the free parameters, in the order of x
    target: arrays by name of what fn returns, 0 where not measured, or NaN for a loss
    weight: 1 / sigma by name, 0 where not measured
    absolute_sigma: whether sigma is known: given, or part of a loss
    max_steps: of each start
    """

    fn: FittedFunction = static_field()
    ties: Ties = static_field()
    priors: Priors = static_field()
    robust: Robust = static_field()
    loss: Loss | None = static_field()
    dtype: Dtype = static_field()
    max_steps: int = static_field()
    absolute_sigma: bool
    parameters: Parameters
    variables: Variables
    target: dict[str, Any]
    weight: dict[str, Any]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the free parameters."""
        return self.variables.names

    @property
    def all_names(self) -> tuple[str, ...]:
        """The names of the free and the tied parameters."""
        return (*self.names, *(name for name, _ in self.ties))

    @property
    def problem_bytes(self) -> int:
        """The bytes of residuals and Jacobian of a row of many."""
        n_residuals = sum(math.prod(weight.shape[1:]) for weight in self.weight.values())
        return 8 * n_residuals * (len(self.names) + 2)

    def values(self, x: Array | np.ndarray) -> dict[str, Any]:
        """Return the values of the free and the tied parameters by name.

        The free parameters are along the first axis of x.
        """
        values = dict(zip(self.names, x, strict=True))
        if self.ties:
            parameters = self.parameters
            all_values = dict(parameters.numbers)
            for name in parameters.names():
                all_values[name] = parameters.read(parameters.locate(name))
            all_values |= values
            for name, tie in self.ties:
                values[name] = all_values[name] = tie(all_values)
        return values

    def predict(self, x: Array | np.ndarray) -> dict[str, Array]:
        """Return the arrays that fn returns, by name."""
        result = self.fn(self.parameters.replace(self.values(x)).build())
        variables = label_result(self.fn, result)
        return {name: variable.data for name, variable in variables.items()}

    def residuals(self, x: Array) -> Array:
        """Return (prediction - target) / sigma, 0 where not measured, and those of the priors.

        A robust loss rho is part of the residuals: r^2 becomes rho(r^2).
        """
        prediction = self.predict(x)
        residuals = []
        for name, weight in self.weight.items():
            weighted = weight * (prediction[name] - self.target[name])
            residuals.append(jnp.where(weight > 0, weighted, 0).ravel())
        robust = robust_residuals(self.robust, jnp.concatenate(residuals))
        return jnp.concatenate([robust, self.prior_residuals(x)])

    def measured_residuals(self, prediction: Arrays) -> Arrays:
        """Return (prediction - target) / sigma by name in NumPy, NaN where not measured."""
        residuals = {}
        for name, weight in self.weight.items():
            difference = weight * (prediction[name] - self.target[name])
            residuals[name] = np.where(weight > 0, difference, np.nan)
        return residuals

    def prior_residuals(self, x: Array) -> Array:
        """Return (x - mean) / standard deviation of each prior."""
        residuals = []
        for name, mean, standard_deviation in self.priors:
            residuals.append((x[self.names.index(name)] - mean) / standard_deviation)
        return jnp.asarray(residuals, x.dtype)

    def cost(self, x: Array) -> Array:
        """Return half the sum of squares, or the user's loss and that of the priors."""
        if self.loss is None:
            residuals = self.residuals(x)
            return 0.5 * (residuals @ residuals)
        prediction: Any = self.predict(x)
        target: Any = self.target
        if len(prediction) == 1:
            (prediction,) = prediction.values()
            (target,) = target.values()
        return self.loss(prediction, target) + 0.5 * jnp.sum(self.prior_residuals(x) ** 2)

    def evaluate(self, z: Array) -> Evaluation:
        """Return the cost, and its derivatives in the variables z (k,).

        The curvature is J^T J of the residuals, or the Hessian of a loss.
        """
        x = self.variables.to_values(z)
        slopes = self.variables.slopes(x)
        if self.loss is None:
            residuals, derivative = jax.linearize(self.residuals, x)
            jacobian = jax.vmap(derivative, out_axes=1)(jnp.diag(slopes))
            cost = 0.5 * (residuals @ residuals)
            return Evaluation(cost, residuals @ jacobian, jacobian.T @ jacobian)
        cost, gradient = jax.value_and_grad(self.cost)(x)
        gradient = gradient * slopes
        curvature = jax.hessian(self.cost)(x) * jnp.outer(slopes, slopes)
        # the second derivative of exp(z) is exp(z) too
        is_log = np.array(self.variables.is_log)
        return Evaluation(cost, gradient, curvature + jnp.diag(jnp.where(is_log, gradient, 0)))

    def tolerance(self, cost: Array) -> tuple[Array, Array]:
        """Return the decreases of the cost at which a search ends, and counts as converged."""
        if self.loss is not None:
            return jnp.zeros_like(cost), self.cost_tolerance(cost, cost)
        eps = np.finfo(self.dtype).eps
        smallest = eps * cost + eps**2 * self.squares()
        return smallest, _CONVERGED_RTOL[self.dtype] * cost + 1e-2 * self.rounding_cost()

    def cost_tolerance(self, cost: Any, squares: Any) -> Any:
        """Return within which difference two costs are of the same optimum.

        squares: the sum of (target / sigma)^2, which a loss has not
        """
        if self.loss is None:
            return _COST_RTOL * cost + _ROUNDING[self.dtype] ** 2 * squares
        # the constant of a log likelihood is arbitrary, so a share of it means nothing
        return _COST_RTOL + 1e2 * np.finfo(self.dtype).eps * abs(cost)

    def squares(self, batch_ndim: int = 0) -> Array:
        """Return the sum of (target / sigma)^2, for each index of the first axes."""
        total = jnp.zeros((), self.dtype)
        for name, weight in self.weight.items():
            ratio = weight * self.target[name]
            # a loss is given targets with NaN where nothing was measured
            total += jnp.nansum(ratio * ratio, tuple(range(batch_ndim, ratio.ndim)))
        return total

    def rounding_cost(self) -> Array:
        """Return the cost of residuals that are a rounding error of their targets."""
        return _ROUNDING[self.dtype] ** 2 * self.squares()

    def select_rows(self, rows: Any) -> "Objective":
        """Index the first axis of targets and weights; None adds an axis of length 1."""
        target = {name: array[rows] for name, array in self.target.items()}
        weight = {name: array[rows] for name, array in self.weight.items()}
        return dataclasses.replace(self, target=target, weight=weight)
