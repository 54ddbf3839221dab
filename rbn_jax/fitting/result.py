"""The result of one fit: a report, JSON, a figure, intervals and derivatives."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import ArrayLike

from rbn_jax.fitting import kernels
from rbn_jax.fitting.identifiability import Identifiability
from rbn_jax.fitting.objective import Arrays, Objective, fit_settings
from rbn_jax.fitting.uncertainty import HESSIAN_TOLERANCE
from rbn_jax.parameters import access, checks
from rbn_jax.parameters.labels import function_quantity
from rbn_jax.parameters.optional import require
from rbn_jax.parameters.results import fill_masked
from rbn_jax.system.json_text import read_mapping, to_dataclass, to_json

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from rbn_jax.plot.fits import Traces

# of the search for an end of a profile interval: each step is twice as long as the last one
_MAX_BRACKET_STEPS = 60
# of each minimisation on a profile
_MAX_PROFILE_STEPS = 100


@dataclasses.dataclass(frozen=True)
class Optimum:
    """A local minimum: parameters, cost (half of chi-square), and number of starts."""

    values: dict[str, float]
    cost: float
    starts: int


@dataclasses.dataclass(frozen=True, eq=False)
class FitResult:
    """The best parameters of a fit, and what is known about them.

    Args:
        function: name of the function.
        method: "lm", or "newton" of a loss.
        params: the network, or the mapping, with the best values in it.
        names: of the free parameters.
        values, stderr: by name of the free and the tied parameters, in their units. A standard
            error is infinite where the data do not constrain the parameter, NaN where it lies
            on a bound or there are no degrees of freedom.
        covariance, correlation: of `names`, in their units.
        residuals: (prediction - target) / sigma by name of what fn returns, NaN where nothing
            was measured.
        chi_square, reduced_chi_square, aic, bic: sum r^2 over n_data numbers, priors included;
            over n_data - k; n ln(chi2/n) + 2 k; n ln(chi2/n) + k ln n, as lmfit has them.
            With a loss of the user's own chi_square is twice the loss, and aic and bic are
            chi_square + 2 k and chi_square + k ln n.
        null_aic: the AIC of the null model; None without one.
        n_starts, n_lost, n_reached: the starts; those where fn or its derivative is NaN; those
            that reached the best optimum.
        optima: the distinct minima, the best first.
        start_costs: the cost at the end of each start, sorted; infinite where it was lost.
        at_bound: "low" or "high" by name.
        identifiability: singular values, and directions that the data leave open.
        status: "converged" or "not converged".
        advice: what to consider before the numbers are used.
        absolute_sigma: whether sigma is known: given, or part of a loss.

    >>> import numpy as np
    >>> from rbn_jax import NetworkParams, calculate_RBN_weights, fit
    >>> target = np.array([[np.nan, np.nan], [np.nan, -40.0]])
    >>> free = {"gii": (0.1, 10.0), "gie": (0.1, 10.0)}
    >>> result = fit(calculate_RBN_weights, NetworkParams(), target, free, sigma=0.1, rows=False)
    >>> result.stderr["gii"], result.identifiability.directions[0]
    (inf, 'gii x gie can vary together: only their product enters')
    """

    function: str
    method: str
    params: Any
    names: tuple[str, ...]
    values: dict[str, float]
    stderr: dict[str, float]
    covariance: np.ndarray
    correlation: np.ndarray
    residuals: dict[str, np.ndarray]
    chi_square: float
    reduced_chi_square: float
    aic: float
    bic: float
    null_aic: float | None
    n_data: int
    n_starts: int
    n_lost: int
    n_reached: int
    optima: tuple[Optimum, ...]
    start_costs: np.ndarray
    at_bound: dict[str, str]
    identifiability: Identifiability
    status: str
    advice: tuple[str, ...]
    absolute_sigma: bool
    # a result that was read from JSON lacks these two
    _objective: Objective | None = dataclasses.field(default=None, repr=False)
    _best: Any = dataclasses.field(default=None, repr=False)

    def report(self) -> str:
        """Return the fit in words and numbers."""
        from rbn_jax.fitting.report import report

        return report(self)

    def confidence(self, name: str, level: float = 0.95) -> tuple[float, float]:
        """Return the profile-likelihood interval of a parameter.

        Chi-square is minimised over the other parameters at each value of this one. The ends
        are where it exceeds the best chi-square by the quantile of chi-square with one degree
        of freedom; without sigma, by that of F times the reduced chi-square. An end that is not
        reached within the bounds is the bound.

        The interval is local: each minimisation starts at the best parameters, and an end is the
        first one on its side. Other optima are not searched, and are not part of the interval.

        Raises:
            ValueError: no free parameter of this name, a level outside (0, 1), or a result
                that was read from JSON, which holds no function.
        """
        objective = self._with_function()
        checks.check_names([name], self.names, "free parameter")
        if not checks.is_number(level) or not 0 < level < 1:
            raise ValueError(f"level={level!r}: must be between 0 and 1")
        index = self.names.index(name)
        variables = objective.variables
        low, high = float(variables.low[index]), float(variables.high[index])
        value, error = self.values[name], self.stderr[name]
        quantile = self._quantile(level)
        rise = quantile if self.absolute_sigma else quantile * self.reduced_chi_square
        # of a perfect fit: a smaller rise is rounding
        rise = max(rise, self._rounding())
        if not math.isfinite(rise) or error == math.inf:
            return low, high
        row = dataclasses.replace(objective.select_rows(None), max_steps=_MAX_PROFILE_STEPS)
        start = variables.from_values(self._best)

        def excess(trial: float) -> float:
            with fit_settings(objective.dtype):
                fixed = dataclasses.replace(row, variables=variables.fix(index, trial))
                z = np.clip(start, fixed.variables.box.low, fixed.variables.box.high)
                chi_square = 2 * kernels.search_at(fixed, z.astype(objective.dtype)).cost.item()
            # roots, which are nearly linear in the parameter, suit brentq better
            return math.sqrt(max(chi_square - self.chi_square, 0)) - math.sqrt(rise)

        step = error * math.sqrt(quantile)
        if not math.isfinite(step) or step <= 0:
            step = 0.01 * (abs(value) or 1.0)
        return _root(excess, value, -step, low), _root(excess, value, step, high)

    def sensitivity(self) -> dict[str, dict[str, np.ndarray]]:
        """Return d parameter / d target, by free name and name of what fn returns.

        By the implicit function theorem, with the exact Hessian; in the parameter's unit per
        unit of the target. It is 0 for a parameter on a bound, NaN for one that the data do not
        constrain.
        """
        objective = self._with_function()

        def optimum(targets: dict[str, Any]) -> dict[str, Array]:
            # the targets are those of the fit, whose optimum is known
            fitted = dataclasses.replace(objective, target=targets)
            return self._optimum(fitted, lambda _, start: start)

        with fit_settings(objective.dtype):
            slopes = jax.device_get(jax.jit(jax.jacobian(optimum))(objective.target))
        for name, error in self.stderr.items():
            if math.isinf(error) and name in slopes:
                slopes[name] = {key: np.nan * slope for key, slope in slopes[name].items()}
        return slopes

    def refit(self, target: ArrayLike | Mapping[str, ArrayLike]) -> dict[str, Array]:
        """Return the optimum nearest to this one for other targets; JAX code.

        jax.grad, jacobian and vmap differentiate it by the implicit function theorem. Call it
        in the precision of the fit.

        Args:
            target: as `fit` has it; NaN and masked values were not measured.

        Raises:
            ValueError: another name or shape than the target's.
        """
        objective = self._with_function()
        targets = (
            dict(target) if isinstance(target, Mapping) else {next(iter(objective.target)): target}
        )
        shapes = {name: np.shape(array) for name, array in objective.target.items()}
        if {name: np.shape(array) for name, array in targets.items()} != shapes:
            raise ValueError(f"target: must have the names and shapes {shapes}")
        weights = {}
        for name, weight in objective.weight.items():
            array = jnp.asarray(fill_masked(targets[name]), objective.dtype)
            is_measured = ~jnp.isnan(array)
            weights[name] = jnp.where(is_measured, weight, 0)
            # the user's loss is given NaN
            targets[name] = jnp.where(is_measured | (objective.loss is not None), array, 0)
        objective = dataclasses.replace(objective, target=targets, weight=weights)

        def solve(_: Callable[[Array], Array], start: Array) -> Array:
            variables = objective.variables.fix(self._is_held, self._best)
            row = dataclasses.replace(objective.select_rows(None), variables=variables)
            z = variables.from_values(self._best)
            return variables.to_values(kernels.search_at(row, z).z[:, 0])

        with jax.numpy_rank_promotion("allow"):
            return self._optimum(objective, solve)

    def plot(
        self,
        axes: "Axes | Sequence[Axes] | np.ndarray | None" = None,
        x: ArrayLike | None = None,
        xlabel: str | None = None,
        ylabel: str | None = None,
        **properties: Any,
    ) -> "Axes | Sequence[Axes] | np.ndarray":
        """Plot data and fit; on three axes also the residuals, and the costs of the starts.

        Text on axes smaller than 2.4 x 1.7 inches is smaller than in rcParams.

        Args:
            axes: one for data and fit, or three; three new ones by default. A new figure has the
                size rcParams["figure.figsize"] if that is not Matplotlib's default.
            x: abscissa of the values, as the times of a trace; their numbers by default.
            xlabel, ylabel: labels of the axes; by default what the function returns and its
                unit at the ordinate, or the function's name where these are not known.
            properties: of the line of the fit (matplotlib.lines.Line2D), such as `lw`.

        Returns:
            The axes.

        Raises:
            ValueError: not one or three axes, another number of values than x has, or a result
                that was read from JSON, which holds no function.
            TypeError: an unknown keyword; lists the valid ones.
        """
        from rbn_jax.plot.fits import plot_fit

        objective = self._with_function()
        with fit_settings(objective.dtype):
            prediction = jax.device_get(objective.predict(self._best))
        costs = 2 * self.start_costs
        is_loss = objective.loss is not None
        if not is_loss:
            # costs that are rounding count as 0
            costs = np.where(costs <= self._rounding(), 0, costs)
        return plot_fit(
            axes,
            to_traces(objective, prediction),
            costs,
            "twice the loss" if is_loss else r"$\chi^2$",
            x,
            xlabel,
            ylabel,
            function_quantity(objective.fn, objective.parameters.build()),
            self.absolute_sigma and not is_loss,
            properties,
        )

    def _repr_html_(self) -> str:
        """Return a table for notebooks."""
        from rbn_jax.fitting.report import to_html

        return to_html(self)

    def to_json(self) -> str:
        """Return everything but the function as JSON; "inf" and "nan" are text there."""
        fields = {name: value for name, value in vars(self).items() if name[0] != "_"}
        fields["params"] = access.to_plain(self.params)
        if isinstance(self.params, checks.ParameterSet):
            params_class = type(self.params)
            fields["params_class"] = f"{params_class.__module__}.{params_class.__qualname__}"
        return to_json(fields)

    @classmethod
    def from_json(cls, text: str) -> "FitResult":
        """Return the result that `to_json` wrote, without its function.

        Parameters that were no network come back as a mapping by name.

        Raises:
            ValueError: the text is something else.
        """
        try:
            fields = read_mapping(text)
            class_name = fields.pop("params_class", None)
            result = cls(**to_dataclass(fields, cls, "fit"))
            if class_name is not None:
                params = checks.restore_parameter_set(str(class_name), result.params)
                result = dataclasses.replace(result, params=params)
            result._check_names()
        except ValueError as error:
            raise ValueError(f"{error}; the text must be what FitResult.to_json wrote") from None
        return result

    def _rounding(self) -> float:
        """Return the chi-square of residuals that are rounding."""
        objective = self._with_function()
        with fit_settings(objective.dtype):
            return 2 * float(objective.rounding_cost())

    def _check_names(self) -> None:
        """Raise a ValueError if parts of a result that was read are of other parameters."""
        k = len(self.names)
        if not set(self.names) <= self.values.keys() == self.stderr.keys():
            raise ValueError(f"names {self.names} and values {list(self.values)} differ")
        if not self.covariance.shape == self.correlation.shape == (k, k):
            raise ValueError(f"covariance or correlation have not the shape {(k, k)}")
        access.read_parameters(self.params).replace(self.values)

    @property
    def _is_held(self) -> np.ndarray:
        """Whether a parameter lies on a bound, (k,)."""
        return np.array([name in self.at_bound for name in self.names])

    def _optimum(
        self, objective: Objective, solve: Callable[[Callable[[Array], Array], Array], Array]
    ) -> dict[str, Array]:
        """Return an optimum by name; it has derivatives by the implicit function theorem.

        objective: this one, with targets that may be traced
        solve: finds the root x of a gradient from a start
        """

        def gradient(x: Array) -> Array:
            # parameters on a bound stay there
            return jnp.where(self._is_held, x - self._best, jax.grad(objective.cost)(x))

        def solve_linear(derivative: Callable[[Array], Array], change: Array) -> Array:
            hessian = jax.jacobian(derivative)(change)
            size = jnp.abs(jnp.diagonal(hessian))
            scale = jnp.where(size > 0, 1 / jnp.sqrt(jnp.where(size > 0, size, 1)), 1)
            # a direction that the data leave open does not move
            inverse = jnp.linalg.pinv(
                hessian * jnp.outer(scale, scale), rtol=HESSIAN_TOLERANCE[objective.dtype]
            )
            return scale * (inverse @ (scale * change))

        x = jax.lax.custom_root(gradient, self._best, solve, solve_linear)
        return dict(zip(self.names, x, strict=True))

    def _with_function(self) -> Objective:
        if self._objective is None:
            raise ValueError(f"the result was read from JSON, without {self.function}: fit again")
        return self._objective

    def _quantile(self, level: float) -> float:
        """Return the quantile of chi-square with one degree of freedom, or of F without sigma."""
        stats = require("scipy.stats", "fit")
        if self.absolute_sigma:
            return float(stats.chi2.ppf(level, 1))
        freedom = self.n_data - len(self.names)
        return float(stats.f.ppf(level, 1, freedom)) if freedom > 0 else math.inf


def _root(excess: Callable[[float], float], value: float, step: float, bound: float) -> float:
    """Return where `excess` becomes positive, from value in the direction of the step.

    The bound is returned where it does not before the bound.
    """
    inner = value
    for _ in range(_MAX_BRACKET_STEPS):
        is_last = (bound - inner - step) * step <= 0
        outer = bound if is_last else inner + step
        if math.isfinite(outer) and excess(outer) >= 0:
            brentq = require("scipy.optimize", "fit").brentq
            return float(brentq(excess, inner, outer, xtol=1e-6 * abs(step), rtol=1e-10))
        if is_last:
            return bound
        inner = outer
        step *= 2
    return bound


def to_traces(objective: Objective, prediction: Arrays) -> "Traces":
    """Return what was measured and fitted of one row, for a figure."""
    from rbn_jax.plot.fits import Trace

    traces = {}
    for name, weight in objective.weight.items():
        is_measured = weight > 0
        target = np.where(is_measured, objective.target[name], np.nan)
        sigma = 1 / np.where(is_measured, weight, np.nan)
        traces[name] = Trace(target, sigma, prediction[name])
    return traces
