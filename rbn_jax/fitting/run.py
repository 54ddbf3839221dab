"""The function `fit`: check the arguments, minimise from many starts, and return the result."""

import contextlib
import dataclasses
import math
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypedDict, Unpack, get_args, overload

import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from rbn_jax.fitting.free_parameters import FreeMapping, read_free
from rbn_jax.fitting.measurements import RowLabels, read_measurements
from rbn_jax.fitting.multistart import make_starts
from rbn_jax.fitting.objective import (
    Dtype,
    FittedFunction,
    Loss,
    Objective,
    Robust,
    fit_settings,
)
from rbn_jax.fitting.result import FitResult
from rbn_jax.fitting.rows import FitRows, check_columns, fit_rows
from rbn_jax.numerics.variables import Variables
from rbn_jax.parameters import checks, domains
from rbn_jax.parameters.access import Parameters, read_parameters
from rbn_jax.parameters.labels import function_name
from rbn_jax.system.progress import Progress

if TYPE_CHECKING:
    import xarray

    Measured = ArrayLike | Mapping[str, ArrayLike] | xarray.DataArray | xarray.Dataset


class FitOptions(TypedDict, total=False):
    """The types of the options of `fit`, which its overloads have in common."""

    sigma: "Measured | None"
    n_starts: int
    seed: int
    dtype: Dtype | np.dtype
    robust: Robust
    loss: Loss | None
    null: Mapping[str, float] | None
    max_steps: int
    batch_size: int | None
    progress: bool | None


@overload
def fit(
    fn: FittedFunction,
    params: object,
    target: "Measured",
    free: FreeMapping,
    *,
    rows: Literal[True],
    **options: Unpack[FitOptions],
) -> FitRows: ...


@overload
def fit(
    fn: FittedFunction,
    params: object,
    target: "Measured",
    free: FreeMapping,
    *,
    rows: Literal[False],
    **options: Unpack[FitOptions],
) -> FitResult: ...


@overload
def fit(
    fn: FittedFunction,
    params: object,
    target: "Measured",
    free: FreeMapping,
    *,
    rows: bool | None = None,
    **options: Unpack[FitOptions],
) -> FitResult | FitRows: ...


def fit(
    fn: FittedFunction,
    params: object,
    target: "Measured",
    free: FreeMapping,
    *,
    rows: bool | None = None,
    sigma: "Measured | None" = None,
    n_starts: int = 64,
    seed: int = 0,
    dtype: Dtype | np.dtype = "float64",
    robust: Robust = "linear",
    loss: Loss | None = None,
    null: Mapping[str, float] | None = None,
    max_steps: int = 1000,
    batch_size: int | None = None,
    progress: bool | None = None,
) -> FitResult | FitRows:
    """Find the parameters for which fn comes nearest to the target, by gradients.

    Minimises chi^2 = sum ((fn(params) - target) / sigma)^2, or a loss, over the free parameters.
    The starts are points of a Sobol sequence within the bounds, the first at the values in
    `params`. All starts of all rows are minimised at once, by the method of Levenberg and
    Marquardt within the bounds.

    Args:
        fn: a function as `sweep` takes it. It is compiled once: pass the same one again.
        params: the network, or a mapping, dataclass or any other pytree of numbers. Those that
            are not free are held fixed. A number within others is named by its path, as
            "synapse.tau", an element of an array by its index, as "w[0]" or "w[1,2]".
        target: like fn's result, an array or a mapping of arrays; NaN, or a name left out, was
            not measured. With one more axis in front each row is a fit of its own.
        free: (low, high) by parameter name, None or infinite where open, or `Free`.
            `baseline_conn_prob_EI` names an entry of the matrix.
        rows: True if the first axis of the target counts rows, False if the target is one
            result of fn. By default the shape decides; the type of the result is known to type
            checkers where this is given.
        sigma: the standard deviations of the target, of a shape that broadcasts to it. Without
            it all are equal, and estimated from the residuals. Priors and robust losses need it.
        n_starts: starts of each fit, the first at the present values; where one is outside its
            bounds, at their middle.
        seed: of the Sobol sequence.
        dtype: "float64" or "float32".
        robust: "linear", or "soft_l1" or "huber" as `scipy.optimize.least_squares` has them, of
            residuals in units of sigma. Standard errors are then approximate.
        loss: loss(prediction, target), one number that JAX can trace, minimised by damped Newton
            steps instead; standard errors are right where it is a negative logarithm of a
            likelihood. It is given the target as it is, NaN included.
        null: values of some free parameters that make a null model, as {"amplitude": 0.0}. It is
            fitted too, and its AIC tells whether there is an effect.
        max_steps: evaluations of each start.
        batch_size: rows fitted at once; by default as many as take about 64 MB.
        progress: a bar over the starts of all rows: True, False, or None for one in a terminal
            or a notebook, and for a line on stderr every 30 seconds elsewhere.

    Returns:
        A `FitResult`; of a target with one more axis, `FitRows`.

    Raises:
        ValueError: an unknown free parameter, or a tie without a free one; bounds not low to
            high, a start outside; a target of another shape, or NaN everywhere; rows that the
            target does not have; a sigma that is not positive; fn is NaN at every start; an
            unknown robust loss or dtype.
        ImportError: SciPy is missing.

    >>> import numpy as np
    >>> from rbn_jax import NetworkParams, calculate_RBN_weights
    >>> target = calculate_RBN_weights(NetworkParams(tau_syn_ex=3.0, gei=1.5))
    >>> free = {"tau_syn_ex": (0.5, 20.0), "gei": (0.1, 10.0)}
    >>> result = fit(calculate_RBN_weights, NetworkParams(), target, free)
    >>> {name: round(value, 4) for name, value in result.values.items()}
    {'tau_syn_ex': 3.0, 'gei': 1.5}
    """
    if not callable(fn):
        raise ValueError(f"fn is a {type(fn).__name__}: must be a function of the parameters")
    n_starts = checks.to_whole_number("n_starts", n_starts, 1)
    seed = checks.to_whole_number("seed", seed, 0)
    max_steps = checks.to_whole_number("max_steps", max_steps, 1)
    if batch_size is not None:
        batch_size = checks.to_whole_number("batch_size", batch_size, 1)
    dtype_name: Any = getattr(dtype, "name", dtype)
    checks.check_names([robust], get_args(Robust), "robust loss")
    checks.check_names([dtype_name], get_args(Dtype), "dtype")
    for name, flag in (("progress", progress), ("rows", rows)):
        if flag is not None and not isinstance(flag, bool):
            raise ValueError(f"{name}={flag!r}: must be True, False or None")
    if loss is not None and not callable(loss):
        raise ValueError(f"loss is a {type(loss).__name__}: must be loss(prediction, target)")
    if loss is not None and robust != "linear":
        raise ValueError("robust is for least squares: leave it out with a loss of your own")
    parameters = read_parameters(params)
    free_parameters = read_free(parameters, free)
    if sigma is None and loss is None and (free_parameters.priors or robust != "linear"):
        raise ValueError("a prior or a robust loss is in units of sigma: give sigma too")
    if sigma is not None and loss is not None:
        raise ValueError("sigma is for least squares: a loss of your own has its own")
    free_names = free_parameters.variables.names
    null_values: dict[str, float] = {}
    if null is not None:
        null_values = checks.to_numbers("null", null, free_names, "free parameter in null")
    if len(null_values) == len(free_names):
        raise ValueError("null fixes every free parameter: must leave one")
    _check_parameters(parameters, free_parameters.variables, null_values)
    with fit_settings(dtype_name):
        converted = parameters.astype(dtype_name)
        measured = read_measurements(
            fn, converted, target, sigma, rows, loss is not None, dtype_name
        )
        objective = Objective(
            fn=fn,
            ties=free_parameters.ties,
            priors=free_parameters.priors,
            robust=robust,
            loss=loss,
            dtype=dtype_name,
            absolute_sigma=sigma is not None or loss is not None,
            max_steps=max_steps,
            parameters=converted,
            variables=free_parameters.variables,
            target=measured.target,
            weight=measured.weight,
        )
        is_single = measured.n_rows is None
        if is_single:
            objective = objective.select_rows(None)
        else:
            check_columns(objective.all_names)
        starts = make_starts(objective, free_parameters.first_start, n_starts, seed)
        n_problems = (measured.n_rows or 1) * n_starts
        title = f"fit of {function_name(fn)}"
        bar = Progress(progress, title, "", n_problems, n_problems, "starts", "fit")
        with contextlib.closing(bar):
            result = fit_rows(
                objective,
                parameters,
                starts,
                measured.labels,
                free_parameters.notes,
                batch_size,
                bar,
            )
        n_left = np.count_nonzero(result.status == "not fitted")
        if n_left:
            message = f"stopped: {n_left} of {len(result)} rows are marked 'not fitted'"
            warnings.warn(message, RuntimeWarning, stacklevel=2)
        elif null_values:
            # Ctrl-C leaves out the null model only
            with contextlib.suppress(KeyboardInterrupt):
                null_aic = _null_aic(objective, null_values, starts, measured.labels, batch_size)
                result = dataclasses.replace(result, null_aic=null_aic)
        if not is_single:
            return result
        if result.status[0] == "not finite":
            _raise_not_finite(objective, starts[0])
        return result[0]


def _raise_not_finite(objective: Objective, start: np.ndarray) -> NoReturn:
    values = objective.values(objective.variables.to_values(jnp.asarray(start)))
    text = ", ".join(f"{name} {float(value):g}" for name, value in values.items())
    raise ValueError(
        "fn, its derivative or its distance to the target is not finite at any start, of which "
        f"the first is ({text})"
    )


def _null_aic(
    objective: Objective,
    null_values: dict[str, float],
    starts: np.ndarray,
    labels: RowLabels,
    batch_size: int | None,
) -> np.ndarray:
    """Return the AIC (rows,) of the null model, whose other parameters are fitted again.

    A parameter that is fixed, or has no effect then, as the latency of no response, counts as
    none.
    """
    is_fixed = np.isin(objective.names, list(null_values))
    fixed_x = [null_values.get(name, 1.0) for name in objective.names]
    variables = objective.variables.fix(is_fixed, fixed_x)
    priors = []
    for name, mean, deviation in objective.priors:
        # of a fixed parameter it holds exactly, so that both models have as many data
        priors.append((name, null_values.get(name, mean), deviation))
    null = dataclasses.replace(objective, variables=variables, priors=tuple(priors))
    null_starts = np.where(is_fixed, variables.box.low, starts).astype(starts.dtype)
    rows = fit_rows(
        null, objective.parameters, null_starts, labels, (), batch_size, Progress.silent()
    )
    if (rows.status == "not fitted").any():
        raise KeyboardInterrupt
    return rows.aic - 2 * (len(null_values) + rows.count_without_effect())


def _check_parameters(
    parameters: Parameters, variables: Variables, null_values: dict[str, float]
) -> None:
    """Raise a ValueError for a bad network, or numbers outside the domain of a parameter.

    A bound of 0 is allowed for a parameter > 0: it is open.
    """
    networks = [parameters, parameters.replace(null_values)] if null_values else [parameters]
    for network in networks:
        params = network.build()
        if isinstance(params, checks.ParameterSet):
            params.check()
    messages = []
    for name, *bounds in zip(variables.names, variables.low, variables.high, strict=True):
        field = parameters.field(parameters.locate(name))
        # whole numbers are fitted as real ones
        domain = domains.POSITIVE if field.domain is domains.COUNT else field.domain
        for bound in bounds:
            if math.isfinite(bound) and bound != 0:
                messages.append(checks.check_domain(name, float(bound), domain, field.unit))
    checks.raise_if_any(messages, "Move the bounds inside.")
