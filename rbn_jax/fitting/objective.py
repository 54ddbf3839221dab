"""The function that a fit minimises: weighted residuals, or a loss of the user's own."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rbn_jax.fitting.free_parameters import (
    Coordinate,
    Priors,
    Ties,
    static_field,
)
from rbn_jax.parameters import checks, domains
from rbn_jax.parameters.access import Parameters
from rbn_jax.parameters.labels import (
    Variable,
    explain_trace_errors,
    label_result,
    record_labels,
)

Robust = Literal["linear", "soft_l1", "huber"]
Dtype = Literal["float32", "float64"]
FittedFunction = Callable[[Any], Any]
"""Computes what is compared with the target from the parameters."""
Arrays = dict[str, np.ndarray]
"""Arrays by name."""
Loss = Callable[[Any, Any], Any]
"""Computes one number from the prediction and the target; JAX code."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Objective:
    """What a fit minimises, as a function of the free parameters x (k,).

    It is a pytree: functions, names and choices are static; the numbers are its leaves, so that
    a fit with other numbers is not compiled again.

    ties: (name, function of all values) of each tied parameter
    priors: (name, mean, standard deviation)
    parameters: those held fixed; the values of the free ones are replaced
    coordinates: one for each free parameter, in the order of x
    target: arrays by name of what fn returns, 0 where not measured
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
    coordinates: tuple[Coordinate, ...]
    target: dict[str, Any]
    weight: dict[str, Any]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the free parameters."""
        return tuple(c.name for c in self.coordinates)

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
        robust = _apply_robust_loss(self.robust, jnp.concatenate(residuals))
        return jnp.concatenate([robust, self.prior_residuals(x)])

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

    def to_values(self, u: Array) -> Array:
        """Return x at coordinates u (..., k)."""
        values = [c.to_value(u[..., i]) for i, c in enumerate(self.coordinates)]
        return jnp.stack(values, -1)

    def from_values(self, x: np.ndarray) -> np.ndarray:
        """Return u at parameters x (k,); those on a bound are moved inside."""
        pairs = zip(self.coordinates, np.asarray(x, float), strict=True)
        return np.array([c.from_value(value) for c, value in pairs], self.dtype)

    def select_rows(self, rows: Any) -> "Objective":
        """Index the first axis of targets and weights; None adds an axis of length 1."""
        target = {name: array[rows] for name, array in self.target.items()}
        weight = {name: array[rows] for name, array in self.weight.items()}
        return dataclasses.replace(self, target=target, weight=weight)


def count_data(objective: Objective) -> np.ndarray:
    """Return the numbers measured in each row (rows,), and priors; 0 if none was measured."""
    counts = 0
    for weight in objective.weight.values():
        counts += np.count_nonzero(weight, axis=tuple(range(1, weight.ndim)))
    return np.where(counts > 0, counts + len(objective.priors), 0)


def _apply_robust_loss(robust: Robust, residuals: Array) -> Array:
    """Return r' with r'^2 = rho(r^2) and the sign of r."""
    if robust == "soft_l1":
        # rho(r^2) = 2 (sqrt(1 + r^2) - 1), written without cancellation
        return residuals * jnp.sqrt(2 / (1 + jnp.sqrt(1 + residuals * residuals)))
    if robust == "huber":
        # rho(r^2) = r^2 up to |r| = 1, then 2 |r| - 1
        size = jnp.abs(residuals)
        outlier = size > 1
        # the inner where keeps the root, and so the derivative, finite for small residuals
        root = jnp.sqrt(2 * jnp.where(outlier, size, 1) - 1)
        return jnp.where(outlier, jnp.sign(residuals) * root, residuals)
    return residuals


def read_measurements(
    fn: FittedFunction,
    parameters: Parameters,
    target: object,
    sigma: object,
    rows: bool | None,
    has_loss: bool,
    dtype: Dtype,
) -> tuple[Arrays, Arrays, int | None]:
    """Read and check targets and sigmas.

    Args:
        fn: the function; its result is traced, not computed.
        parameters: the parameters of fn.
        target, sigma, rows: as `fit` takes them.
        has_loss: whether the user's loss is minimised, which takes the target with its NaN.
        dtype: of the arrays.

    Returns:
        Targets and weights 1 / sigma by name, and the number of rows, None for one fit.

    Raises:
        ValueError: a target of another shape, nothing measured, or a bad sigma.
    """
    with explain_trace_errors(fn), record_labels():
        template = jax.eval_shape(lambda p: label_result(fn, fn(p.build())), parameters)
    targets = _arrays_by_name(target, template, "target")
    n_rows = _count_rows(targets, template, rows)
    sigmas = _sigmas(sigma, targets, template)
    weights = {}
    for name, array in targets.items():
        array = array.astype(dtype)
        if np.isinf(array).any():
            raise ValueError(f"the target {name} is infinite: must be finite, or NaN if not known")
        measured = np.isfinite(array)
        weights[name] = np.where(measured, 1 / sigmas[name], 0).astype(dtype)
        targets[name] = array if has_loss else np.nan_to_num(array)
    if not any((weight > 0).any() for weight in weights.values()):
        raise ValueError("the target is NaN everywhere: nothing was measured")
    return targets, weights, n_rows


def _arrays_by_name(arrays: Any, template: Mapping[str, Variable], what: str) -> Arrays:
    """Return float arrays by name from an array, a mapping or an xarray object."""
    if hasattr(arrays, "data_vars"):
        arrays = {str(name): array for name, array in arrays.data_vars.items()}
    if not isinstance(arrays, Mapping):
        if len(template) > 1:
            raise ValueError(f"{what}: fn returns {', '.join(template)}: give a mapping of these")
        arrays = {next(iter(template)): arrays}
    numbers = {}
    for name, array in arrays.items():
        if name not in template:
            raise checks.unknown_name_error(name, template, f"name in the {what}")
        array = _align(array, template[name], f"{what} {name}")
        try:
            numbers[name] = np.asarray(array, float)
        except (TypeError, ValueError):
            raise ValueError(f"the {what} {name} is no array of numbers: {array!r}") from None
    if not numbers:
        raise ValueError(f"{what}={arrays!r}: must hold {', '.join(template)}")
    return numbers


def _align(array: Any, variable: Variable, what: str) -> Any:
    """Put dimensions and labels of an xarray object in the order of fn's result."""
    dims = getattr(array, "dims", ())
    if not set(variable.dims) & set(dims):
        return array
    array = array.expand_dims([dim for dim in variable.dims if dim not in dims])
    array = array.transpose(..., *variable.dims)
    for name, coord_dims, labels in variable.coords:
        if (name,) != coord_dims or name not in array.indexes:
            continue
        index = array.indexes[name]
        if set(index) != set(labels):
            raise ValueError(f"the {what} has {name} {list(index)}: fn {list(labels)}")
        array = array.sel({name: list(labels)})
    return array


def _count_rows(targets: Arrays, template: Mapping[str, Variable], rows: bool | None) -> int | None:
    """Return the length of the additional first axis; None if there is none."""
    lengths: set[int | None] = set()
    for name, array in targets.items():
        shape = template[name].data.shape
        if array.shape == shape:
            lengths.add(None)
        elif array.shape and array.shape[1:] == shape and len(array):
            lengths.add(len(array))
        else:
            raise ValueError(
                f"the target {name} has the shape {array.shape}: fn returns {shape}; for many "
                "fits at once, one more axis in front"
            )
    if len(lengths) > 1:
        raise ValueError(f"the targets have different numbers of rows: {sorted(map(str, lengths))}")
    n_rows = lengths.pop()
    if rows is True and n_rows is None:
        raise ValueError(
            "rows=True: the target has the shape of one result of fn: must have one more axis in "
            "front, which counts the rows"
        )
    if rows is False and n_rows is not None:
        raise ValueError(
            f"rows=False: the target has {n_rows} rows: must have the shape of one result of fn"
        )
    return n_rows


def _sigmas(sigma: Any, targets: Arrays, template: Mapping[str, Variable]) -> Arrays:
    """Return the standard deviations of each target, broadcast to its shape."""
    if sigma is None:
        sigma = 1.0
    if isinstance(sigma, Mapping) or np.ndim(sigma) > 0:
        sigma_by_name = _arrays_by_name(sigma, template, "sigma")
    else:
        sigma_by_name = dict.fromkeys(template, sigma)
    sigmas = {}
    for name, target in targets.items():
        if name not in sigma_by_name:
            raise ValueError(f"sigma lacks {name}, which the target has")
        message = checks.check_domain(f"sigma of {name}", sigma_by_name[name], domains.POSITIVE)
        checks.raise_if_any([message], "It is a standard deviation of the target.")
        array = np.asarray(sigma_by_name[name], float)
        try:
            sigmas[name] = np.broadcast_to(array, target.shape)
        except ValueError:
            raise ValueError(
                f"sigma of {name} has the shape {array.shape}: must broadcast to {target.shape}"
            ) from None
    return sigmas
