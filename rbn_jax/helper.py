"""A drop-in for NEST's EI_clustered_network/helper.py: `from rbn_jax import helper`.

The same four functions under the same names and signatures: dictionaries in, NumPy float64
arrays and floats out, whatever precision JAX is set to. Where the reference breaks down,
as at equal time constants, the right value is returned; bad input is a ValueError.
"""

import warnings
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from rbn_jax import psp, weights
from rbn_jax.network import NUMBER_FIELDS, check_values
from rbn_jax.parameters import checks, domains
from rbn_jax.plot import raster_plot

__all__ = [
    "calculate_RBN_weights",
    "postsynaptic_current_to_potential",
    "raster_plot",
    "rheobase_current",
]

_ADVICE = "Nothing was computed."
_MATRIX = "baseline_conn_prob"
_DOMAINS = [NUMBER_FIELDS[name].domain for name in (*weights.NAMES, *[_MATRIX] * 3)]
_MINIMA, _MAXIMA = np.array([(domain.minimum, domain.maximum) for domain in _DOMAINS]).T


def postsynaptic_current_to_potential(
    tau_m: Any, tau_syn: Any, c_m: Any = 1.0, e_l: Any = 0.0
) -> Any:
    """Peak of the PSP to an event of 1 pA [mV]; see the function of this name in `rbn_jax`.

    Raises:
        ValueError: a time constant [ms] or the capacitance [pF] is not a number > 0.

    >>> round(postsynaptic_current_to_potential(10.0, 10.0), 12)  # 10 / e
    3.678794411714
    """
    values = {"tau_m": tau_m, "tau_syn": tau_syn, "c_m": c_m, "e_l": e_l}
    return _float64(psp.postsynaptic_current_to_potential, values)


def rheobase_current(tau_m: Any, e_l: Any, v_th: Any, c_m: Any) -> Any:
    """Rheobase current [pA]; see the function of this name in `rbn_jax`.

    Raises:
        ValueError: the time constant [ms] or the capacitance [pF] is not a number > 0.

    >>> rheobase_current(20.0, 0.0, 20.0, 1.0)
    1.0
    """
    values = {"tau_m": tau_m, "e_l": e_l, "v_th": v_th, "c_m": c_m}
    return _float64(weights.rheobase_current, values)


def calculate_RBN_weights(params: Mapping[str, Any]) -> np.ndarray:
    """Weights [[EE, EI], [IE, II]] of a balanced random network [pA sqrt(N)], float64.

    As in the reference C_m is taken to be 1 pF whatever `params["C_m"]` says; another value
    there gives a UserWarning. `rbn_jax.calculate_RBN_weights` uses it.

    Args:
        params: a dictionary with the reference's keys; others are not looked at.

    Raises:
        ValueError: names every key that is missing or whose value cannot be.

    >>> calculate_RBN_weights({"N_E": 10})
    Traceback (most recent call last):
    ...
    ValueError: params lacks N_I, E_L, V_th_E, V_th_I, tau_E, tau_I, tau_syn_ex, ...
    """
    if not isinstance(params, Mapping):
        raise ValueError(f"params is a {type(params).__name__}: must be a dictionary")
    numbers = _plain(params)
    if numbers is None:
        numbers = _checked(params)
    if _scalar("C_m", params.get("C_m", 1.0)) != 1.0:
        warnings.warn(
            f"C_m={params['C_m']} pF is ignored, as in NEST's helper, which takes 1 pF; "
            "rbn_jax.calculate_RBN_weights uses it",
            stacklevel=2,
        )
    with jax.enable_x64(True):
        return np.array(_weights(numbers))


def _plain(params: Mapping[str, Any]) -> np.ndarray | None:
    """All numbers in one array where they are plainly good, faster than `_checked`.

    None for anything else, good or bad.
    """
    *values, prob = map(params.get, weights.NAMES)
    if not set(map(type, values)) <= {int, float} or type(prob) is not np.ndarray:
        return None
    if prob.shape != (2, 2) or prob.dtype != np.float64:
        return None
    numbers = np.array([*values, *prob.ravel()])
    if numbers.dtype != np.float64:  # a whole number beyond all
        return None
    if not ((numbers >= _MINIMA) & (numbers <= _MAXIMA)).all():
        return None
    n_e, n_i, e_l, v_th_e, v_th_i = numbers[:5].tolist()
    good = n_e.is_integer() and n_i.is_integer() and min(v_th_e, v_th_i) > e_l
    return numbers if good else None


def _checked(params: Mapping[str, Any]) -> np.ndarray:
    """All numbers in one array; ValueError that names every bad one."""
    missing = [key for key in weights.NAMES if params.get(key) is None]
    if missing:
        raise ValueError(f"params lacks {', '.join(missing)}")
    values = {key: _scalar(key, params[key]) for key in weights.NAMES}
    checks.raise_if_any(check_values(values), _ADVICE)
    *numbers, prob = values.values()
    return np.array([*numbers, *prob.ravel()], np.float64)


@jax.jit
def _weights(numbers: jax.Array) -> jax.Array:
    """The weights of all numbers in one array: the fewer arguments, the faster the call."""
    values = dict(zip(weights.NAMES, (*numbers[:-4], numbers[-4:].reshape(2, 2)), strict=True))
    return weights.calculate_RBN_weights(values)


def _scalar(key: str, value: Any) -> Any:
    """A number, or for the matrix a (2, 2) array of them: one network, not a batch."""
    checked = checks.to_matrix(key, value) if key == _MATRIX else checks.to_number(key, value)
    shape = (2, 2) if key == _MATRIX else ()
    if np.shape(checked) != shape:
        raise ValueError(f"{key} has the shape {np.shape(checked)}: must be {shape}")
    return np.asarray(checked, np.float64) if shape else float(checked)


def _float64(function: Any, values: dict[str, Any]) -> Any:
    """function of checked values, as a float, or an array where one came in."""
    numbers = {
        name: np.asarray(checks.to_number(name, value), np.float64)
        for name, value in values.items()
    }
    positive = {"tau_m", "tau_syn", "c_m"}
    messages = []
    for name, number in numbers.items():
        domain = domains.POSITIVE if name in positive else domains.REAL
        messages.append(checks.check_domain(name, number, domain))
    checks.raise_if_any(messages, _ADVICE)
    with jax.enable_x64(True):
        result = np.array(function(**numbers))
    return result if result.ndim else float(result)
