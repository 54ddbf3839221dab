"""A drop-in for NEST's EI_clustered_network/helper.py: `from rbn_jax import helper`.

It has the same four functions with the same names and signatures. They take dictionaries and
numbers, compute in float64 whatever precision JAX is set to, and return NumPy arrays and floats.
Where the reference has no result, as at equal time constants, they return the limit; invalid
input is a ValueError.
"""

import warnings
from collections.abc import Callable, Mapping

import jax
import numpy as np
from numpy.typing import ArrayLike

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
_POSITIVE = ("tau_m", "tau_syn", "c_m")
# the numbers of a network as one array: all of PARAMETER_NAMES, the last of which is a 2x2 matrix
_ELEMENT_NAMES = weights.PARAMETER_NAMES + 3 * (_MATRIX,)
_MINIMA = np.array([NUMBER_FIELDS[name].domain.minimum for name in _ELEMENT_NAMES])
_MAXIMA = np.array([NUMBER_FIELDS[name].domain.maximum for name in _ELEMENT_NAMES])


def postsynaptic_current_to_potential(
    tau_m: ArrayLike, tau_syn: ArrayLike, c_m: ArrayLike = 1.0, e_l: ArrayLike = 0.0
) -> float | np.ndarray:
    """Peak of the PSP to an event of 1 pA [mV], plus the reference's term in the rest potential.

    Args:
        tau_m, tau_syn: membrane and synaptic time constants [ms], > 0.
        c_m: membrane capacitance [pF], > 0.
        e_l: rest potential [mV].

    Returns:
        The formula of `rbn_jax.postsynaptic_current_to_potential`: a float for numbers, an array
        for arrays, which broadcast.

    Raises:
        ValueError: a time constant or the capacitance is not a number > 0.

    >>> round(postsynaptic_current_to_potential(10.0, 10.0), 12)  # 10 / e
    3.678794411714
    """
    arguments = {"tau_m": tau_m, "tau_syn": tau_syn, "c_m": c_m, "e_l": e_l}
    return _evaluate(psp.postsynaptic_current_to_potential, arguments)


def rheobase_current(
    tau_m: ArrayLike, e_l: ArrayLike, v_th: ArrayLike, c_m: ArrayLike
) -> float | np.ndarray:
    """Rheobase current (v_th - e_l) c_m / tau_m [pA].

    Args:
        tau_m: membrane time constant [ms], > 0.
        e_l, v_th: rest potential and threshold [mV].
        c_m: membrane capacitance [pF], > 0.

    Returns:
        A float for numbers, an array for arrays, which broadcast.

    Raises:
        ValueError: the time constant or the capacitance is not a number > 0.

    >>> rheobase_current(20.0, 0.0, 20.0, 1.0)
    1.0
    """
    arguments = {"tau_m": tau_m, "e_l": e_l, "v_th": v_th, "c_m": c_m}
    return _evaluate(weights.rheobase_current, arguments)


def calculate_RBN_weights(params: Mapping[str, object]) -> np.ndarray:
    """Weights [[EE, EI], [IE, II]] of a balanced random network [pA sqrt(N)], float64.

    As in the reference C_m is 1 pF whatever `params["C_m"]` says; another value there gives a
    UserWarning. `rbn_jax.calculate_RBN_weights` uses it.

    Args:
        params: a dictionary with the reference's keys; other keys are ignored.

    Returns:
        A new array, which the caller may change: rows are targets, columns sources.

    Raises:
        ValueError: names every key that is missing or has an invalid value.

    >>> calculate_RBN_weights({"N_E": 10})
    Traceback (most recent call last):
    ...
    ValueError: params lacks N_I, E_L, V_th_E, V_th_I, tau_E, tau_I, tau_syn_ex, ...
    """
    if not isinstance(params, Mapping):
        raise ValueError(f"params is a {type(params).__name__}: must be a dictionary")
    numbers = _pack_valid_floats(params)
    if numbers is None:
        numbers = _check_and_pack(params)
    if _to_float64("C_m", params.get("C_m", 1.0)) != 1.0:
        warnings.warn(
            f"C_m={params['C_m']} pF is ignored, as in NEST's helper, which takes 1 pF; "
            "rbn_jax.calculate_RBN_weights uses it",
            stacklevel=2,
        )
    with jax.enable_x64(True):
        return np.array(_weights(numbers))


def _pack_valid_floats(params: Mapping[str, object]) -> np.ndarray | None:
    """Return all numbers in one array; None if a value needs the slower `_check_and_pack`.

    The checks are made on the whole array, since most of the time of a call is spent in them.
    """
    *scalars, matrix = map(params.get, weights.PARAMETER_NAMES)
    if not set(map(type, scalars)) <= {int, float} or type(matrix) is not np.ndarray:
        return None
    if matrix.shape != (2, 2) or matrix.dtype != np.float64:
        return None
    numbers = np.array([*scalars, *matrix.ravel()])
    # an integer that no float holds makes an array of objects
    if numbers.dtype != np.float64:
        return None
    if not ((numbers >= _MINIMA) & (numbers <= _MAXIMA)).all():
        return None
    n_e, n_i, e_l, v_th_e, v_th_i = numbers[:5].tolist()
    valid = n_e.is_integer() and n_i.is_integer() and min(v_th_e, v_th_i) > e_l
    return numbers if valid else None


def _check_and_pack(params: Mapping[str, object]) -> np.ndarray:
    """Return all numbers in one array; raise a ValueError that names every invalid value."""
    missing = [key for key in weights.PARAMETER_NAMES if params.get(key) is None]
    if missing:
        raise ValueError(f"params lacks {', '.join(missing)}")
    numbers = {key: _to_float64(key, params[key]) for key in weights.PARAMETER_NAMES}
    checks.raise_if_any(check_values(numbers), _ADVICE)
    return np.concatenate([np.ravel(number) for number in numbers.values()])


@jax.jit
def _weights(numbers: jax.Array) -> jax.Array:
    """Return the weights from one array: a call with fewer arguments takes less time."""
    params = dict(zip(weights.PARAMETER_NAMES, numbers, strict=False))
    params[_MATRIX] = numbers[-4:].reshape(2, 2)
    return weights.calculate_RBN_weights(params)


def _to_float64(key: str, value: object) -> np.ndarray:
    """Return a value of one network, not of a batch: a number, or the 2x2 matrix."""
    convert, shape = checks.to_number, ()
    if key == _MATRIX:
        convert, shape = checks.to_matrix, (2, 2)
    number = np.asarray(convert(key, value), np.float64)
    if number.shape != shape:
        raise ValueError(f"{key} has the shape {number.shape}: must be {shape}")
    return number


def _evaluate(
    function: Callable[..., jax.Array], arguments: Mapping[str, ArrayLike]
) -> float | np.ndarray:
    """Check the arguments and compute in float64."""
    numbers = {}
    messages = []
    for name, value in arguments.items():
        numbers[name] = np.asarray(checks.to_number(name, value), np.float64)
        domain = domains.POSITIVE if name in _POSITIVE else domains.REAL
        messages.append(checks.check_domain(name, numbers[name], domain))
    checks.raise_if_any(messages, _ADVICE)
    with jax.enable_x64(True):
        result = np.array(function(**numbers))
    return result if result.ndim else float(result)
