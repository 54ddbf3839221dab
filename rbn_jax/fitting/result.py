"""What a fit found, and how it is told: a report, JSON, figures, profile intervals."""

import dataclasses
import json
import math
from typing import Any

import jax
import numpy as np

from rbn_jax.fitting import kernels as s
from rbn_jax.fitting.identifiability import Identifiability
from rbn_jax.fitting.objective import Data, Problem
from rbn_jax.fitting.profile import interval
from rbn_jax.parameters import access, checks


@dataclasses.dataclass(frozen=True)
class Optimum:
    """A minimum that some of the starts reached: parameters, cost (half of chi-square), starts."""

    values: dict[str, float]
    cost: float
    starts: int


@dataclasses.dataclass(frozen=True, eq=False)
class FitResult:
    """The best parameters of a fit, with what is known about them.

    Args:
        params: the network, or the mapping, with the best values in it.
        values, stderr: by free name, and by name of what is tied to them; in their units. A
            standard error is infinite where the data do not constrain the parameter, NaN where
            it lies on a bound or there are no degrees of freedom.
        covariance, correlation: of `names`, in their units.
        residuals: (prediction - target) / sigma by name of what fn returns, NaN where nothing
            was measured.
        chi_square, reduced_chi_square, aic, bic: sum r^2 over n_data numbers, priors included;
            over n_data - k; n ln(chi2/n) + 2 k; n ln(chi2/n) + k ln n, as lmfit has them.
            With a loss of the user's own chi_square is twice the loss, and aic and bic are
            chi_square + 2 k and chi_square + k ln n.
        n_starts, n_lost, n_reached: starts, those where fn is NaN, those that reached the best.
        optima: the distinct minima found, the best first.
        start_costs: the cost at the end of each start, sorted; infinite where it was lost.
        at_bound: "low" or "high" by name.
        status: "converged" or "not converged".
        advice: what to think of before using the numbers.

    >>> import numpy as np
    >>> from rbn_jax import NetworkParams, calculate_RBN_weights, fit
    >>> target = np.array([[np.nan, np.nan], [np.nan, -40.0]])
    >>> free = {"gii": (0.1, 10.0), "gie": (0.1, 10.0)}
    >>> found = fit(calculate_RBN_weights, NetworkParams(), target, free, sigma=0.1)
    >>> found.stderr["gii"], found.identifiability.directions[0]
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
    _problem: Problem | None = dataclasses.field(default=None, repr=False)
    _data: Data | None = dataclasses.field(default=None, repr=False)
    _best: Any = dataclasses.field(default=None, repr=False)

    def report(self) -> str:
        """The fit in words and numbers."""
        from rbn_jax.fitting.report import report

        return report(self)

    def confidence(self, name: str, level: float = 0.95) -> tuple[float, float]:
        """The profile-likelihood interval: where the least chi-square rises by the quantile.

        Chi-square is minimised anew over the other parameters at each value of this one. With
        sigma the rise is the quantile of chi-square with one degree of freedom, without it of
        F, times the reduced chi-square. An end that is not reached within the bounds is the bound.

        Raises:
            ValueError: no free parameter of this name, a level outside (0, 1), or a result
                that was read from JSON, which holds no function.
        """
        problem, data = self._with_function()
        if name not in self.names:
            raise checks.unknown_name_error(str(name), self.names, "free parameter")
        if not checks.is_number(level) or not 0 < level < 1:
            raise ValueError(f"level={level!r}: must be between 0 and 1")
        return interval(self, problem, data, name, level)

    def sensitivity(self) -> dict[str, dict[str, np.ndarray]]:
        """d parameter / d target, by free name and name of what fn returns, in their units.

        By the implicit function theorem, with the exact Hessian; 0 for a parameter on a bound,
        NaN for one that the data do not constrain.
        """
        problem, data = self._with_function()
        free = np.array([name not in self.at_bound for name in self.names])
        with jax.enable_x64(problem.dtype == "float64"):
            found = jax.device_get(s.sensitivity(problem, data, self._best, free))
        known = {name: np.nan if math.isinf(self.stderr[name]) else 1.0 for name in self.names}
        return {
            name: {key: known[name] * slope[i] for key, slope in found.items()}
            for i, name in enumerate(self.names)
        }

    def refit(self, target: Any) -> dict[str, Any]:
        """The optimum nearest to this one for other targets: JAX code, with its derivatives.

        target: as `fit` has it, without NaN. jax.grad, jacobian and vmap go through it by the
        implicit function theorem; call it in the precision of the fit.

        Raises:
            ValueError: another name or shape than the target's, or a fit by a loss.
        """
        from rbn_jax.fitting.implicit_derivatives import refit

        problem, data = self._with_function()
        return refit(self, problem, data, target)

    def plot(self, axes: Any = None, x: Any = None, xlabel: str | None = None) -> Any:
        """Data and fit, residuals, and the costs of the starts on three axes, which it returns.

        x: what the values are drawn against, as the times of a trace; else their numbers.
        """
        from rbn_jax.fitting.figure import draw

        return draw(self, *self._with_function(), axes, x, xlabel)

    def to_json(self) -> str:
        """Everything but the function, as JSON; "inf" and "nan" are text there."""
        own = {x.name: getattr(self, x.name) for x in dataclasses.fields(self)}
        plain = {name: value for name, value in own.items() if not name.startswith("_")}
        plain["params"] = access.to_plain(self.params)
        params_class = type(self.params)
        if isinstance(self.params, checks.ParameterSet):
            plain["params_class"] = f"{params_class.__module__}.{params_class.__qualname__}"
        plain["identifiability"] = dataclasses.asdict(self.identifiability)
        plain["optima"] = [dataclasses.asdict(x) for x in self.optima]
        return json.dumps(to_plain(plain), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> "FitResult":
        """The result that `to_json` wrote; what was no network comes back as a mapping by name."""
        found = _numbers(json.loads(text))
        if class_name := found.pop("params_class", None):
            found["params"] = checks.restore_parameter_set(class_name, found["params"])
        for name in ("covariance", "correlation", "start_costs"):
            found[name] = np.array(found[name], float)
        found["residuals"] = {k: np.array(x, float) for k, x in found["residuals"].items()}
        own = found["identifiability"]
        found["identifiability"] = Identifiability(**{k: tuple(x) for k, x in own.items()})
        found["optima"] = tuple(Optimum(**x) for x in found["optima"])
        found["names"], found["advice"] = tuple(found["names"]), tuple(found["advice"])
        return cls(**found)

    def _with_function(self) -> tuple[Problem, Data]:
        if self._problem is None or self._data is None:
            raise ValueError(f"the result was read from JSON, without {self.function}: fit again")
        return self._problem, self._data


def to_plain(x: Any) -> Any:
    """Lists, mappings and numbers that JSON has; "nan", "inf" and "-inf" as text."""
    if isinstance(x, dict):
        return {name: to_plain(value) for name, value in x.items()}
    if isinstance(x, list | tuple):
        return [to_plain(value) for value in x]
    if isinstance(x, np.ndarray | np.generic):
        return to_plain(x.tolist())
    return str(x) if isinstance(x, float) and not math.isfinite(x) else x


def _numbers(x: Any) -> Any:
    if isinstance(x, dict):
        return {name: _numbers(value) for name, value in x.items()}
    if isinstance(x, list):
        return [_numbers(value) for value in x]
    return float(x) if x in ("nan", "inf", "-inf") else x
