"""The function `fit`: check the arguments, minimise from many starts, and return the result."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack, get_args, overload

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from rbn_jax.fitting.free_parameters import (
    Coordinate,
    FreeMapping,
    read_free,
    share_to_coordinate,
)
from rbn_jax.fitting.kernels import minimise_by_scipy
from rbn_jax.fitting.multistart import LocalMinima, multistart, progress_bar, to_local_minima
from rbn_jax.fitting.objective import (
    Dtype,
    FittedFunction,
    Loss,
    Objective,
    Robust,
    read_measurements,
)
from rbn_jax.fitting.result import FitResult
from rbn_jax.fitting.rows import FitRows, fit_rows
from rbn_jax.fitting.summary import summarise
from rbn_jax.parameters import checks, domains
from rbn_jax.parameters.access import Parameters, read_parameters
from rbn_jax.parameters.optional import require

if TYPE_CHECKING:
    import xarray

    Measured = ArrayLike | Mapping[str, ArrayLike] | xarray.DataArray | xarray.Dataset

Method = Literal["lm", "trf"]

# points of the Sobol sequence keep this share of the range from the bounds
_SOBOL_MARGIN = 0.5e-6


class FitOptions(TypedDict, total=False):
    """The types of the options of `fit`, which its overloads have in common."""

    sigma: "Measured | None"
    n_starts: int
    seed: int
    method: Method
    dtype: Dtype | np.dtype
    robust: Robust
    loss: Loss | None
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
    method: Method = "lm",
    dtype: Dtype | np.dtype = "float64",
    robust: Robust = "linear",
    loss: Loss | None = None,
    max_steps: int = 200,
    batch_size: int | None = None,
    progress: bool | None = None,
) -> FitResult | FitRows:
    """Find the parameters for which fn comes nearest to the target, by gradients.

    Minimises chi^2 = sum ((fn(params) - target) / sigma)^2, or a loss, over the free parameters.
    The starts are points of a Sobol sequence within the bounds, the first at the values in
    `params`. All starts are minimised at once. An end near a bound across which the cost would
    fall is minimised again with the parameter at the bound.

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
        method: "lm", the method of Levenberg and Marquardt, all starts at once; or "trf",
            SciPy's trust region with true bounds, one start after the other.
        dtype: "float64" or "float32".
        robust: "linear", or "soft_l1" or "huber" as `scipy.optimize.least_squares` has them, of
            residuals in units of sigma. Standard errors are then approximate.
        loss: loss(prediction, target), one number that JAX can trace, minimised by BFGS instead;
            standard errors are right where it is a negative logarithm of a likelihood. It is
            given the target as it is, NaN included.
        max_steps: of each start.
        batch_size: rows fitted at once; by default as many as take about 64 MB.
        progress: a bar over the rows, or over the starts of one fit: True, False, or None for
            one in a terminal.

    Returns:
        A `FitResult`; of a target with one more axis, `FitRows`.

    Raises:
        ValueError: an unknown free parameter, or a tie without a free one; bounds not low to
            high, a start outside; a target of another shape, or NaN everywhere; rows that the
            target does not have; a sigma that is not positive; fn is NaN at every start; an
            unknown method, robust loss or dtype.
        ImportError: optimistix or SciPy is missing.

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
    for name, choice, choices in (
        ("method", method, Method),
        ("robust loss", robust, Robust),
        ("dtype", dtype_name, Dtype),
    ):
        if choice not in get_args(choices):
            raise checks.unknown_name_error(choice, get_args(choices), name)
    for name, flag in (("progress", progress), ("rows", rows)):
        if flag is not None and not isinstance(flag, bool):
            raise ValueError(f"{name}={flag!r}: must be True, False or None")
    if loss is not None and not callable(loss):
        raise ValueError(f"loss is a {type(loss).__name__}: must be loss(prediction, target)")
    if loss is not None and (robust != "linear" or method != "lm"):
        raise ValueError("loss= is minimised by BFGS: leave method and robust as they are")
    parameters = read_parameters(params)
    free_parameters = read_free(parameters, free)
    _check_parameters(parameters, free_parameters.coordinates)
    if sigma is None and (free_parameters.priors or robust != "linear"):
        raise ValueError("a prior or a robust loss is in units of sigma: give sigma too")
    if sigma is not None and loss is not None:
        raise ValueError("sigma is for least squares: a loss of your own has its own")
    with jax.enable_x64(dtype_name == "float64"):
        converted = parameters.astype(dtype_name)
        target_arrays, weight, n_rows = read_measurements(
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
            coordinates=free_parameters.coordinates,
            target=target_arrays,
            weight=weight,
        )
        u = start_coordinates(objective, free_parameters.first_start, n_starts, seed)
        if n_rows is None:
            row = objective.select_rows(None)
            minima = _minimise_one_row(row, u, method, progress)
            return summarise(objective, parameters, minima, method, free_parameters.notes)
        if method == "trf":
            raise ValueError("method='trf' is for one fit: take method='lm' for many rows")
        return fit_rows(
            objective,
            parameters,
            u,
            n_rows,
            batch_size,
            progress,
        )


def _minimise_one_row(
    row: Objective, u: np.ndarray, method: Method, progress: bool | None
) -> LocalMinima:
    """Return the local minima of one fit.

    Raises:
        ValueError: fn is NaN at every start, or at every end.
    """
    with progress_bar(progress, len(u), " starts") as bar:
        if method == "trf":
            ends = minimise_by_scipy(row.select_rows(0), u, bar)
            minima = to_local_minima(row, ends)
        else:
            minima = multistart(row, u, bar)
    if not minima.usable.any():
        values = row.values(row.to_values(jnp.asarray(u[0])))
        start = ", ".join(f"{name} {float(value):g}" for name, value in values.items())
        raise ValueError(
            f"fn, or its distance to the target, is not finite at any start: ({start})"
        )
    if minima.failed[0]:
        raise ValueError("every start ended where fn is NaN: narrow the bounds")
    return minima


def start_coordinates(
    objective: Objective, first_start: np.ndarray, n_starts: int, seed: int
) -> np.ndarray:
    """Return coordinates of the starts (n_starts, k): `first_start`, then Sobol points."""
    # NaN stands for the middle, where the coordinate is 0
    first = np.nan_to_num(objective.from_values(first_start))
    if n_starts == 1:
        return first[None]
    qmc = require("scipy.stats", "fit").qmc
    # a Sobol sequence is balanced if its length is a power of 2
    power = math.ceil(math.log2(n_starts - 1))
    sobol = qmc.Sobol(len(first), scramble=True, rng=seed).random_base2(power)
    shares = _SOBOL_MARGIN + sobol[: n_starts - 1] * (1 - 2 * _SOBOL_MARGIN)
    return np.vstack([first, share_to_coordinate(shares)]).astype(objective.dtype)


def _check_parameters(parameters: Parameters, coordinates: tuple[Coordinate, ...]) -> None:
    """Raise a ValueError for a bad network, or bounds outside the domain of a parameter.

    A bound of 0 is allowed for a parameter > 0: it is open.
    """
    params = parameters.build()
    if isinstance(params, checks.ParameterSet):
        params.check()
    messages = []
    for c in coordinates:
        field = parameters.field(parameters.locate(c.name))
        # whole numbers are fitted as real ones
        domain = domains.POSITIVE if field.domain is domains.COUNT else field.domain
        for bound in (c.low, c.high):
            if math.isfinite(bound) and bound != 0:
                messages.append(checks.check_domain(c.name, bound, domain, field.unit))
    checks.raise_if_any(messages, "Move the bounds inside.")
