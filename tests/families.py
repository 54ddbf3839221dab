"""Fits whose true parameters are known: functions, bounds, noise, and open directions."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import least_squares

import rbn_jax as rbn
from rbn_jax import NetworkParams

TIMES = np.linspace(0.5, 80, 60)
# known time constants of six synapses [ms]
SYNAPSES = np.array([0.5, 1.0, 2.0, 4.0, 8.0, 16.0])
PSP = {"weight": 90.0, "tau_m": 15.0, "tau_syn": 3.0, "c_m": 250.0}
NET = NetworkParams()


def trace(p):
    return p["weight"] * rbn.psp_waveform(np.array(TIMES), p["tau_m"], p["tau_syn"], p["c_m"])


def two_synapses(p):
    ex = p["w_ex"] * rbn.psp_waveform(np.array(TIMES), p["tau_m"], p["tau_ex"], p["c_m"])
    late = TIMES - 20  # the inhibitory event comes 20 ms later
    return ex - p["w_in"] * rbn.psp_waveform(late, p["tau_m"], p["tau_in"], p["c_m"])


def amplitudes(p):
    peak = rbn.postsynaptic_current_to_potential(p["tau_m"], np.array(SYNAPSES), p["c_m"])
    return p["weight"] * peak


def peak_and_time(p):
    peak = rbn.postsynaptic_current_to_potential(p["tau_m"], p["tau_syn"], p["c_m"])
    return {"peak": 90.0 * peak, "time": rbn.psp_time_to_peak(p["tau_m"], p["tau_syn"])}


def inhibition_to_excitation(p):
    js = rbn.calculate_RBN_weights(p)
    return -js[:, 1] / js[:, 0] * (p.tau_syn_in / p.tau_syn_ex)


def only(*entries):
    """Return 1 at entries of the matrix that were measured, and NaN elsewhere."""
    mask = np.full((2, 2), np.nan)
    for entry in entries:
        mask[entry] = 1.0
    return mask


@dataclasses.dataclass(frozen=True)
class Family:
    """A kind of fit. True values are drawn log-uniformly from the middle of the bounds.

    truths: (low, high) from which to draw a value, in place of its bounds
    measured: 1 where fn's result was measured, else NaN
    unknown: a pattern for the description of each direction that the data leave open
    optima: number of equally good optima
    """

    name: str
    fn: Callable[[Any], Any]
    params: Any
    free: Mapping[str, tuple[float, float]]
    sigma: float
    measured: Any = 1.0
    robust: str = "linear"
    unknown: tuple[str, ...] = ()
    optima: int = 1
    truths: Mapping[str, tuple[float, float]] = dataclasses.field(default_factory=dict)

    def instances(self, n: int, seed: int) -> tuple[dict[str, np.ndarray], Any]:
        """Return n true values by name, and noisy targets, both with a leading axis."""
        rng = np.random.default_rng(seed)
        truths = {}
        for name, bounds in self.free.items():
            low, high = self.truths.get(name, bounds)
            share = rng.uniform(0.15, 0.85, n)
            truths[name] = low ** (1 - share) * high**share
        with jax.enable_x64(True):
            clean = jax.device_get(jax.vmap(self._at)(jax.tree.map(jnp.asarray, truths)))

        def measure(x):
            outlier = rng.random(x.shape) < (0.05 if self.robust != "linear" else 0)
            noise = rng.standard_normal(x.shape) * np.where(outlier, 20, 1)
            return (x + self.sigma * noise) * self.measured

        return truths, jax.tree.map(measure, clean)

    def _at(self, values):
        if isinstance(self.params, NetworkParams):
            return self.fn(self.params.replace(**values))
        return self.fn({**self.params, **values})

    def scipy_cost(self, start: Mapping[str, float], target: Any) -> float:
        """Return the cost where SciPy's trust region ends, with JAX's derivatives."""
        residuals, jacobian = self._compiled

        def evaluate(function, x):
            with jax.enable_x64(True):
                return np.asarray(function(x, target))

        return least_squares(
            lambda x: evaluate(residuals, x),
            [start[name] for name in self.free],
            lambda x: evaluate(jacobian, x),
            tuple(zip(*self.free.values(), strict=True)),
            loss=self.robust,
            x_scale="jac",
            xtol=1e-12,
            ftol=1e-12,
            gtol=1e-12,
        ).cost

    @functools.cached_property
    def _compiled(self):
        """Return compiled functions of x and target: the residuals and their Jacobian."""

        def residuals(x, target):
            prediction = self._at(dict(zip(self.free, x, strict=True)))
            pairs = zip(jax.tree.leaves(prediction), jax.tree.leaves(target), strict=True)
            r = jnp.concatenate([jnp.ravel((a - b) / self.sigma) for a, b in pairs])
            return jnp.where(jnp.isnan(r), 0, r)

        return jax.jit(residuals), jax.jit(jax.jacfwd(residuals))

    @staticmethod
    def row(targets: Any, i: int) -> Any:
        """Return the target of one instance."""
        return jax.tree.map(lambda x: x[i], targets)

    def options(self) -> dict[str, Any]:
        """Return the arguments of fit without the target."""
        return {
            "fn": self.fn,
            "params": self.params,
            "free": dict(self.free),
            "sigma": self.sigma,
            "robust": self.robust,
        }


# the membrane is slower than the synapse, so that the two cannot be exchanged
SEPARATE = {"weight": (5, 500), "tau_m": (6, 60), "tau_syn": (0.3, 5.5)}
TIME_CONSTANTS = {"tau_m": (6, 60), "tau_syn": (0.3, 5.5)}
SYMMETRIC = {"weight": (5, 500), "tau_m": (1, 60), "tau_syn": (1, 60)}
SYMMETRIC_TRUTHS = {"tau_m": (6, 40), "tau_syn": (1.0, 5.5)}
TWO_EVENTS = {
    "w_ex": 90.0,
    "w_in": 200.0,
    "tau_m": 15.0,
    "tau_ex": 2.0,
    "tau_in": 3.0,
    "c_m": 250.0,
}
TWO_EVENTS_BOUNDS = {
    "w_ex": (5, 500),
    "w_in": (5, 500),
    "tau_m": (10, 60),
    "tau_ex": (0.3, 8),
    "tau_in": (0.3, 8),
}
MATRIX = {"tau_syn_ex": (0.5, 20), "tau_syn_in": (0.5, 20), "gei": (0.2, 5), "gie": (0.2, 5)}
WEIGHTS = rbn.calculate_RBN_weights
FAMILIES = [
    Family("PSP trace", trace, PSP, SEPARATE, sigma=0.005),
    Family(
        name="PSP trace, either order",
        fn=trace,
        params=PSP,
        free=SYMMETRIC,
        sigma=0.005,
        optima=2,
        truths=SYMMETRIC_TRUTHS,
    ),
    Family("PSP trace with outliers", trace, PSP, SEPARATE, sigma=0.005, robust="soft_l1"),
    Family(
        name="PSP trace, c_m free too",
        fn=trace,
        params=PSP,
        free={**SEPARATE, "c_m": (50, 500)},
        sigma=0.005,
        unknown=("weight / c_m can vary together: only their ratio enters",),
    ),
    Family("two events on one membrane", two_synapses, TWO_EVENTS, TWO_EVENTS_BOUNDS, sigma=0.005),
    Family(
        name="amplitudes of six synapses",
        fn=amplitudes,
        params=PSP,
        free={"weight": (5, 500), "tau_m": (2, 60)},
        sigma=0.002,
    ),
    Family("peak and its time", peak_and_time, PSP, TIME_CONSTANTS, sigma=0.01),
    Family("weight matrix", WEIGHTS, NET, MATRIX, sigma=0.05),
    Family(
        name="inhibition to excitation",
        fn=inhibition_to_excitation,
        params=NET,
        free={"gei": (0.2, 5), "tau_syn_in": (0.5, 20)},
        sigma=0.01,
    ),
    Family(
        name="II alone",
        fn=WEIGHTS,
        params=NET,
        free={"gii": (0.2, 5), "gie": (0.2, 5)},
        sigma=0.05,
        measured=only((1, 1)),
        unknown=("gii x gie can vary together: only their product enters",),
    ),
    Family(
        name="EI, with its probability",
        fn=WEIGHTS,
        params=NET,
        free={"gei": (0.2, 5), "baseline_conn_prob_EI": (0.05, 1.0)},
        sigma=0.05,
        measured=only((0, 0), (0, 1)),
        unknown=("gei / baseline_conn_prob_EI can vary together: only their ratio enters",),
    ),
    Family(
        name="EE, with a weight of inhibition",
        fn=WEIGHTS,
        params=NET,
        free={"tau_syn_ex": (0.5, 20), "gii": (0.2, 5)},
        sigma=0.05,
        measured=only((0, 0)),
        unknown=("gii has no effect on the data",),
    ),
]
