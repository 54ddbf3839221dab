"""From the biophysics of a balanced random network to its synaptic weights, differentiably.

Public names are imported on first use (PEP 562): `import rbn_jax` alone does not load JAX.
"""

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

_EXPORTS = {
    "rbn_jax.fitting": ("FitResult", "FitRows", "Free", "fit"),
    "rbn_jax.network": ("NetworkParams",),
    "rbn_jax.psp": (
        "postsynaptic_current_to_potential",
        "postsynaptic_potential_to_current",
        "psp_time_to_peak",
        "psp_waveform",
    ),
    "rbn_jax.rates": (
        "MeanField",
        "Populations",
        "calibrate",
        "firing_rates",
        "fixed_points",
        "mean_field",
        "siegert_rate",
    ),
    "rbn_jax.sensitivity": ("elasticity", "jacobian"),
    "rbn_jax.sweeps": ("sample", "sweep"),
    "rbn_jax.weights": ("calculate_RBN_weights", "rheobase_current"),
}
"""Public names by the module that defines them."""

_MODULES = ("helper", "plot", "rates", "reductions", "spikes")
"""Public modules, which are also attributes without an import statement of their own."""

if TYPE_CHECKING:  # the same names for type checkers and editors; a test compares the two
    from rbn_jax import helper as helper
    from rbn_jax import plot as plot
    from rbn_jax import rates as rates
    from rbn_jax import reductions as reductions
    from rbn_jax import spikes as spikes
    from rbn_jax.fitting import FitResult as FitResult
    from rbn_jax.fitting import FitRows as FitRows
    from rbn_jax.fitting import Free as Free
    from rbn_jax.fitting import fit as fit
    from rbn_jax.network import NetworkParams as NetworkParams
    from rbn_jax.psp import (
        postsynaptic_current_to_potential as postsynaptic_current_to_potential,
    )
    from rbn_jax.psp import (
        postsynaptic_potential_to_current as postsynaptic_potential_to_current,
    )
    from rbn_jax.psp import psp_time_to_peak as psp_time_to_peak
    from rbn_jax.psp import psp_waveform as psp_waveform
    from rbn_jax.rates import MeanField as MeanField
    from rbn_jax.rates import Populations as Populations
    from rbn_jax.rates import calibrate as calibrate
    from rbn_jax.rates import firing_rates as firing_rates
    from rbn_jax.rates import fixed_points as fixed_points
    from rbn_jax.rates import mean_field as mean_field
    from rbn_jax.rates import siegert_rate as siegert_rate
    from rbn_jax.sensitivity import elasticity as elasticity
    from rbn_jax.sensitivity import jacobian as jacobian
    from rbn_jax.sweeps import sample as sample
    from rbn_jax.sweeps import sweep as sweep
    from rbn_jax.weights import calculate_RBN_weights as calculate_RBN_weights
    from rbn_jax.weights import rheobase_current as rheobase_current

_MODULE_OF = {name: module for module, names in _EXPORTS.items() for name in names}

__all__ = [*_MODULE_OF, *_MODULES]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> object:
    if name in _MODULE_OF:
        value = getattr(importlib.import_module(_MODULE_OF[name]), name)
    elif name in _MODULES:
        value = importlib.import_module(f"rbn_jax.{name}")
    else:
        raise AttributeError(f"module 'rbn_jax' has no attribute {name!r}")
    globals()[name] = value  # so that it is looked up once
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
