"""Fits whose truth is known: what is sought, with which noise, and what the data cannot tell."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import rbn_jax as rbn
from rbn_jax import NetworkParams

TIMES = np.linspace(0.5, 80, 60)
SYNAPSES = np.array([0.5, 1.0, 2.0, 4.0, 8.0, 16.0])  # their time constants, known [ms]
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
    """What of the matrix was measured: these entries."""
    mask = np.full((2, 2), np.nan)
    for entry in entries:
        mask[entry] = 1.0
    return mask


@dataclasses.dataclass(frozen=True)
class Family:
    """A kind of fit. Truths are drawn evenly in the logarithm from the middle of the bounds.

    truths: where to draw some of them instead
    measured: 1 where fn's result was measured, else NaN
    unknown: patterns that the directions which the data leave open must match, one each
    optima: how many equally good optima there are
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
        """n truths by name, and targets with noise, with a leading axis."""
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

    @staticmethod
    def row(targets: Any, i: int) -> Any:
        """The target of one instance."""
        return jax.tree.map(lambda x: x[i], targets)

    def options(self) -> dict[str, Any]:
        """What fit takes, but for the target."""
        same = {"fn": self.fn, "params": self.params, "free": dict(self.free)}
        return {**same, "sigma": self.sigma, "robust": self.robust}


APART = {"weight": (5, 500), "tau_m": (6, 60), "tau_syn": (0.3, 5.5)}
TAUS = {name: APART[name] for name in ("tau_m", "tau_syn")}
ORDERED = {"tau_m": (6, 40), "tau_syn": (1.0, 5.5)}
EITHER = {"weight": (5, 500), "tau_m": (1, 60), "tau_syn": (1, 60)}
TWO = {"w_ex": 90.0, "w_in": 200.0, "tau_m": 15.0, "tau_ex": 2.0, "tau_in": 3.0, "c_m": 250.0}
FIVE = dict.fromkeys(("w_ex", "w_in"), (5, 500)) | {"tau_m": (10, 60)}
FIVE |= dict.fromkeys(("tau_ex", "tau_in"), (0.3, 8))
MATRIX = {"tau_syn_ex": (0.5, 20), "tau_syn_in": (0.5, 20), "gei": (0.2, 5), "gie": (0.2, 5)}
RATIOS = {name: MATRIX[name] for name in ("gei", "tau_syn_in")}
PRODUCT = dict.fromkeys(("gii", "gie"), (0.2, 5))
SHARE = {"gei": (0.2, 5), "baseline_conn_prob_EI": (0.05, 1.0)}
SILENT = {"tau_syn_ex": (0.5, 20), "gii": (0.2, 5)}
WEIGHTS = rbn.calculate_RBN_weights
EVERY = [
    Family("PSP trace", trace, PSP, APART, 0.005),
    Family("PSP trace, either order", trace, PSP, EITHER, 0.005, optima=2, truths=ORDERED),
    Family("PSP trace with outliers", trace, PSP, APART, 0.005, robust="soft_l1"),
    Family(
        *("PSP trace, c_m free too", trace, PSP, APART | {"c_m": (50, 500)}, 0.005),
        unknown=("weight / c_m can vary together: only their ratio enters",),
    ),
    Family("two events on one membrane", two_synapses, TWO, FIVE, 0.005),
    Family(
        *("amplitudes of six synapses", amplitudes, PSP, {"weight": (5, 500), "tau_m": (2, 60)}),
        sigma=0.002,
    ),
    Family("peak and its time", peak_and_time, PSP, TAUS, 0.01),
    Family("weight matrix", WEIGHTS, NET, MATRIX, 0.05),
    Family("inhibition to excitation", inhibition_to_excitation, NET, RATIOS, 0.01),
    Family(
        *("II alone", WEIGHTS, NET, PRODUCT, 0.05, only((1, 1))),
        unknown=("gii x gie can vary together: only their product enters",),
    ),
    Family(
        *("EI, with its probability", WEIGHTS, NET, SHARE, 0.05, only((0, 0), (0, 1))),
        unknown=("gei / baseline_conn_prob_EI can vary together: only their ratio enters",),
    ),
    Family(
        *("EE, with a weight of inhibition", WEIGHTS, NET, SILENT, 0.05, only((0, 0))),
        unknown=("gii can have any value: it does not enter",),
    ),
]
