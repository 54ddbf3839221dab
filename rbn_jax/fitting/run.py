"""The one function of this package: targets in, parameters out, with what is known about them."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from rbn_jax.fitting import kernels as s
from rbn_jax.fitting.assemble import summary
from rbn_jax.fitting.free_parameters import Coordinate, first_start, read_free
from rbn_jax.fitting.multistart import Ends, finish, follow
from rbn_jax.fitting.objective import ROBUST, Data, Problem, read_data
from rbn_jax.fitting.progress import bar
from rbn_jax.fitting.result import FitResult
from rbn_jax.fitting.rows import FitRows, fit_rows
from rbn_jax.parameters import checks, domains
from rbn_jax.parameters.access import Parameters, read_parameters
from rbn_jax.parameters.optional import require

METHODS = ("lm", "trf")


def fit(
    fn: Callable[[Any], Any],
    params: Any,
    target: Any,
    free: Mapping[str, Any],
    *,
    sigma: Any = None,
    n_starts: int = 64,
    seed: int = 0,
    method: str = "lm",
    dtype: str = "float64",
    robust: str = "linear",
    loss: Callable[[Any, Any], Any] | None = None,
    max_steps: int = 200,
    batch_size: int | None = None,
    progress: bool | None = None,
) -> FitResult | FitRows:
    """The parameters for which fn comes nearest to the target, by gradient from many starts.

    Minimises chi^2 = sum ((fn(params) - target) / sigma)^2, or a loss, over the free parameters.
    The starts are points of a Sobol sequence within the bounds, the first at the values in
    `params`; all are followed at once. The best is finished on those bounds that it leans on.

    Args:
        fn: a function as `sweep` takes it. It is compiled once: pass the same one again.
        params: the network, or a mapping or any other pytree of numbers, whose others are held
            fixed. Numbers within others are called by their path, as "synapse.tau".
        target: like fn's result, an array or a mapping of arrays; NaN, or a name left out, was
            not measured. With one more axis in front each row is a fit of its own.
        free: (low, high) by parameter name, None or infinite where open, or `Free`.
            `baseline_conn_prob_EI` names an entry of the matrix.
        sigma: the standard deviations of the target, of a shape that broadcasts to it. Without
            it all are alike, and their size is taken from the residuals. Priors and robust losses
            need it.
        n_starts: starts of each fit, the first at the present values; where one is outside its
            bounds, at their middle.
        seed: of the Sobol sequence.
        method: "lm", Levenberg and Marquardt's, all starts at once; or "trf", SciPy's trust
            region with true bounds, one start after the other.
        dtype: "float64" or "float32".
        robust: "linear", or "soft_l1" or "huber" as `scipy.optimize.least_squares` has them, of
            residuals in units of sigma. Standard errors are then approximate.
        loss: loss(prediction, target), one number that JAX can trace, minimised by BFGS instead;
            standard errors are right where it is a negative logarithm of a likelihood. It is
            given the target as it is, NaN included.
        max_steps: of each start.
        batch_size: rows fitted at once; else as many as take about 64 MB.
        progress: a bar over the rows, or over the starts of one fit: True, False, or None for
            one in a terminal.

    Returns:
        A `FitResult`; of a target with one more axis, `FitRows`.

    Raises:
        ValueError: an unknown or a tied-only free parameter, bounds not low to high, a start
            outside; a target of another shape, or NaN everywhere; a sigma that is not positive;
            fn is NaN at every start; an unknown method, robust loss or dtype.
        ImportError: optimistix or SciPy is missing.

    >>> import numpy as np
    >>> from rbn_jax import NetworkParams, calculate_RBN_weights
    >>> wanted = calculate_RBN_weights(NetworkParams(tau_syn_ex=3.0, gei=1.5))
    >>> free = {"tau_syn_ex": (0.5, 20.0), "gei": (0.1, 10.0)}
    >>> found = fit(calculate_RBN_weights, NetworkParams(), wanted, free)
    >>> {name: round(value, 4) for name, value in found.values.items()}
    {'tau_syn_ex': 3.0, 'gei': 1.5}
    """
    dtype = getattr(dtype, "name", dtype)
    _check_options(fn, n_starts, seed, method, robust, loss, dtype, max_steps, batch_size, progress)
    n_starts, seed, max_steps = int(n_starts), int(seed), int(max_steps)
    batch_size = None if batch_size is None else int(batch_size)
    parameters = read_parameters(params)
    coordinates, ties, priors = read_free(parameters, free)
    _check_params(parameters, coordinates)
    if sigma is None and (priors or robust != "linear"):
        raise ValueError("a prior or a robust loss is in units of sigma: give sigma too")
    if sigma is not None and loss is not None:
        raise ValueError("sigma is for least squares: a loss of your own has its own")
    names = tuple(c.name for c in coordinates)
    told = tuple((name, *prior) for name, prior in priors.items())
    problem = Problem(fn, names, tuple(ties.items()), told, robust, loss, dtype)
    with jax.enable_x64(dtype == "float64"):
        numbers = parameters.astype(dtype)
        clean, weight, rows = read_data(fn, numbers, target, sigma, loss is not None, dtype)
        data = Data(numbers, coordinates, clean, weight)
        first, notes = first_start(parameters, free, coordinates)
        u = starts(first, coordinates, n_starts, seed).astype(dtype)
        if rows is None:
            one = _one(problem, data.rows(None), u, method, max_steps, progress)
            found = summary(problem, data, parameters, one, sigma is not None, method)
            return dataclasses.replace(found, advice=found.advice + notes)
        if method == "trf":
            raise ValueError("method='trf' is for one fit: take method='lm' for many rows")
        options = {"steps": max_steps, "batch": batch_size, "progress": progress}
        return fit_rows(problem, data, parameters, u, sigma is not None, rows, **options)


def _one(
    problem: Problem, data: Data, u: np.ndarray, method: str, steps: int, progress: bool | None
) -> Ends:
    """The ends of one fit, a single row.

    Raises:
        ValueError: fn is NaN at every start, or at every end.
    """
    with bar(progress, len(u), " starts") as shown:
        if method == "trf":
            found = s.by_scipy(problem, data.rows(0), u, steps, shown)
            ends = finish(problem, data, [y[None] for y in found], steps)
        else:
            ends = follow(problem, data, u, steps, shown)
    if not ends.usable.any():
        values = problem.values(data.params, np.asarray(data.to_user(u[0])))
        at = ", ".join(f"{name} {float(value):g}" for name, value in values.items())
        raise ValueError(f"fn, or its distance to the target, is not finite at any start: ({at})")
    if ends.failed[0]:
        raise ValueError("every start ended where fn is NaN: narrow the bounds")
    return ends


def starts(first: np.ndarray, coordinates: tuple[Coordinate, ...], n: int, seed: int) -> np.ndarray:
    """Coordinates of n starts, (n, k); of the first the parameters are given."""
    u = np.empty((n, len(coordinates)))
    if n > 1:
        qmc = require("scipy.stats", "fit").qmc
        power = math.ceil(math.log2(n - 1)) if n > 2 else 0
        cube = qmc.Sobol(len(coordinates), scramble=True, rng=seed).random_base2(power)[: n - 1]
        inside = 0.5 * 1e-6 + cube * (1 - 1e-6)
        u[1:] = np.stack([c.spread(p) for c, p in zip(coordinates, inside.T, strict=True)], 1)
    u[0] = [c.from_user(x) for c, x in zip(coordinates, first, strict=True)]
    return u


def _check_params(parameters: Parameters, coordinates: tuple[Coordinate, ...]) -> None:
    """ValueError for a bad network, or bounds at which a parameter has no meaning; 0 is open."""
    params = parameters.build()
    if isinstance(params, checks.ParameterSet):
        params.check()
    messages = []
    for c in coordinates:
        field = parameters.field(parameters.locate(c.name))
        # whole numbers are sought as real ones
        domain = domains.POSITIVE if field.domain is domains.COUNT else field.domain
        for bound in (c.low, c.high):
            if math.isfinite(bound) and bound != 0:
                messages.append(checks.check_domain(c.name, bound, domain, field.unit))
    checks.raise_if_any(messages, "Move the bounds inside.")


def _check_options(
    fn: Any,
    n_starts: Any,
    seed: Any,
    method: Any,
    robust: Any,
    loss: Any,
    dtype: Any,
    max_steps: Any,
    batch_size: Any,
    progress: Any,
) -> None:
    if not callable(fn):
        raise ValueError(f"fn is a {type(fn).__name__}: must be a function of the parameters")
    for name, value, least in (
        ("n_starts", n_starts, 1),
        ("seed", seed, 0),
        ("max_steps", max_steps, 1),
        ("batch_size", 1 if batch_size is None else batch_size, 1),
    ):
        if not checks.is_number(value) or value != int(value) or value < least:
            raise ValueError(f"{name}={value!r}: must be a whole number >= {least}")
    for name, value, valid in (
        ("method", method, METHODS),
        ("robust loss", robust, ROBUST),
        ("dtype", dtype, tuple(s.TOLERANCE)),
    ):
        if value not in valid:
            raise checks.unknown_name_error(str(value), valid, name)
    if progress is not None and not isinstance(progress, bool):
        raise ValueError(f"progress={progress!r}: must be True, False or None")
    if loss is not None and not callable(loss):
        raise ValueError(f"loss is a {type(loss).__name__}: must be loss(prediction, target)")
    if loss is not None and (robust != "linear" or method != "lm"):
        raise ValueError("loss= is minimised by BFGS: leave method and robust as they are")
