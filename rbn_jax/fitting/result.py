"""The result of one fit: a report, JSON, a figure, intervals and derivatives."""

import dataclasses
import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jax import Array
from numpy.typing import ArrayLike

from rbn_jax.fitting import kernels
from rbn_jax.fitting.objective import Objective
from rbn_jax.fitting.profile import profile_interval
from rbn_jax.parameters import access, checks

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclasses.dataclass(frozen=True)
class Optimum:
    """A local minimum: parameters, cost (half of chi-square), and number of starts."""

    values: dict[str, float]
    cost: float
    starts: int


@dataclasses.dataclass(frozen=True)
class Identifiability:
    """What the data tell about the parameters together.

    Args:
        singular_values: those of the Jacobian of the residuals, the largest first; in relative
            changes of parameters that cannot be negative, else in shares of their width.
        directions: each direction of the parameters that does not change the residuals, in
            words.
    """

    singular_values: tuple[float, ...]
    directions: tuple[str, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class FitResult:
    """The best parameters of a fit, and what is known about them.

    Args:
        function: name of the function.
        method: "lm", "trf", or "bfgs" of a loss.
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
        n_starts, n_lost, n_reached: the starts; those where fn is NaN; those that reached the
            best optimum.
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

        Raises:
            ValueError: no free parameter of this name, a level outside (0, 1), or a result
                that was read from JSON, which holds no function.
        """
        objective = self._with_function()
        if name not in self.names:
            raise checks.unknown_name_error(name, self.names, "free parameter")
        if not checks.is_number(level) or not 0 < level < 1:
            raise ValueError(f"level={level!r}: must be between 0 and 1")
        return profile_interval(self, objective, name, level)

    def sensitivity(self) -> dict[str, dict[str, np.ndarray]]:
        """Return d parameter / d target, by free name and name of what fn returns.

        By the implicit function theorem, with the exact Hessian; in the parameter's unit per
        unit of the target. It is 0 for a parameter on a bound, NaN for one that the data do not
        constrain.
        """
        objective = self._with_function()
        free = np.array([name not in self.at_bound for name in self.names])
        with jax.enable_x64(objective.dtype == "float64"):
            slopes = jax.device_get(kernels.sensitivity(objective, self._best, free))
        sensitivities = {}
        for i, name in enumerate(self.names):
            factor = np.nan if math.isinf(self.stderr[name]) else 1.0
            sensitivities[name] = {key: factor * slope[i] for key, slope in slopes.items()}
        return sensitivities

    def refit(self, target: ArrayLike | dict[str, ArrayLike]) -> dict[str, Array]:
        """Return the optimum nearest to this one for other targets; JAX code.

        jax.grad, jacobian and vmap differentiate it by the implicit function theorem. Call it
        in the precision of the fit.

        Args:
            target: as `fit` has it, without NaN.

        Raises:
            ValueError: another name or shape than the target's, or a fit by a loss.
        """
        from rbn_jax.fitting.implicit_derivatives import refit

        return refit(self, self._with_function(), target)

    def plot(
        self,
        axes: "Sequence[Axes] | np.ndarray | None" = None,
        x: ArrayLike | None = None,
        xlabel: str | None = None,
    ) -> "Sequence[Axes] | np.ndarray":
        """Plot data and fit, residuals, and the costs of the starts.

        Args:
            axes: three axes; new ones by default.
            x: abscissa of the values, as the times of a trace; their numbers by default.
            xlabel: label of the abscissa.

        Returns:
            The three axes.
        """
        from rbn_jax.fitting.figure import plot_fit

        return plot_fit(self, self._with_function(), axes, x, xlabel)

    def to_json(self) -> str:
        """Return everything but the function as JSON; "inf" and "nan" are text there."""
        fields: dict[str, Any] = {}
        for field in dataclasses.fields(self):
            if not field.name.startswith("_"):
                fields[field.name] = getattr(self, field.name)
        fields["params"] = access.to_plain(self.params)
        if isinstance(self.params, checks.ParameterSet):
            params_class = type(self.params)
            fields["params_class"] = f"{params_class.__module__}.{params_class.__qualname__}"
        fields["identifiability"] = dataclasses.asdict(self.identifiability)
        fields["optima"] = [dataclasses.asdict(optimum) for optimum in self.optima]
        return json.dumps(to_plain(fields), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> "FitResult":
        """Return the result that `to_json` wrote, without its function.

        Parameters that were no network come back as a mapping by name.
        """
        fields = _to_numbers(json.loads(text))
        if class_name := fields.pop("params_class", None):
            fields["params"] = checks.restore_parameter_set(class_name, fields["params"])
        for name in ("covariance", "correlation", "start_costs"):
            fields[name] = np.array(fields[name], float)
        for name, residuals in fields["residuals"].items():
            fields["residuals"][name] = np.array(residuals, float)
        identifiability = fields["identifiability"]
        fields["identifiability"] = Identifiability(
            tuple(identifiability["singular_values"]), tuple(identifiability["directions"])
        )
        fields["optima"] = tuple(Optimum(**optimum) for optimum in fields["optima"])
        for name in ("names", "advice"):
            fields[name] = tuple(fields[name])
        return cls(**fields)

    def _with_function(self) -> Objective:
        if self._objective is None:
            raise ValueError(f"the result was read from JSON, without {self.function}: fit again")
        return self._objective


def to_plain(value: object) -> Any:
    """Return value in types that JSON has; "nan", "inf" and "-inf" as text."""
    if isinstance(value, dict):
        return {name: to_plain(element) for name, element in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(element) for element in value]
    if isinstance(value, np.ndarray | np.generic):
        return to_plain(value.tolist())
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _to_numbers(value: object) -> Any:
    """Return value with "nan", "inf" and "-inf" as numbers."""
    if isinstance(value, dict):
        return {name: _to_numbers(element) for name, element in value.items()}
    if isinstance(value, list):
        return [_to_numbers(element) for element in value]
    return float(value) if value in ("nan", "inf", "-inf") else value
