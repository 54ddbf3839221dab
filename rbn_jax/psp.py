"""One event on an exponential synapse: its waveform, its peak, and a recorded trace of it.

The current of an event starts at 1 pA and decays with tau_syn. It charges a membrane with tau_m
and c_m, whose response is the post-synaptic potential (PSP)

    V(t) = tau_m tau_syn / (c_m (tau_syn - tau_m)) (exp(-t/tau_syn) - exp(-t/tau_m)),

and t/c_m exp(-t/tau_m) at equal time constants. It is symmetric in the two. All functions are
elementwise over inputs that broadcast, and differentiable to any order. Outside the domain they
return NaN. Inputs in float16 and bfloat16 are computed with in float32, and the result has their
dtype. Complex inputs are a TypeError.

Values, first and second derivatives are exact to rounding for every pair of time constants from
2e-31 to 4e37 ms in float32 and from 2e-292 to 2e307 ms in float64, whatever their ratio; where they
change their sign, relative to their largest term. Exceptions are numbers that the dtype cannot
hold: where one derivative is above 8e37 (4e307 in float64), others of its order may be NaN, and
what is below 1e-38 (2e-308) is 0. Derivatives of higher order have no such promise.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
from jax import Array
from jax.typing import ArrayLike

from rbn_jax.numerics import exponential
from rbn_jax.numerics.arrays import (
    as_floats,
    broadcast_any_rank,
    formula,
    in_single_precision,
    positive,
    same_rank,
)
from rbn_jax.parameters.domains import POSITIVE, REAL, number
from rbn_jax.parameters.labels import label


@label(units="mV", long_name="peak of the PSP")
@formula
def postsynaptic_current_to_potential(
    tau_m: ArrayLike, tau_syn: ArrayLike, c_m: ArrayLike = 1.0, e_l: ArrayLike = 0.0
) -> Array:
    """Peak of the PSP to an event of 1 pA [mV].

    max V = tau_m / c_m (tau_m/tau_syn)^(tau_m / (tau_syn - tau_m)) + e_l exp(-t*/tau_m), where
    t* is the time to peak; the first term has the limit tau_m / (e c_m) at equal time constants.

    The term in e_l is that of NEST's function. It is what remains at time t* of a membrane that
    is e_l above rest at the event. So with e_l != 0 the result is no depolarisation: the
    amplitude of the PSP is the value at e_l = 0.

    Args:
        tau_m: membrane time constant [ms], > 0.
        tau_syn: synaptic time constant [ms], > 0.
        c_m: membrane capacitance [pF], > 0.
        e_l: resting potential [mV].

    Returns:
        The peak [mV], in the broadcast shape; NaN outside the domain.

    Source: the function of this name in NEST's EI_clustered_network/helper.py; Rostami et al.
    (2020), doi 10.1101/2020.02.27.968339, Eqs. 7-10.

    >>> print(f"{postsynaptic_current_to_potential(20.0, 5.0):.5f}")
    3.14980
    >>> print(f"{postsynaptic_current_to_potential(10.0, 10.0):.5f}")
    3.67879
    """
    tau_m, tau_syn, c_m, e_l = same_rank(*as_floats(tau_m, tau_syn, c_m, e_l))
    peak = exponential.peak(tau_m, tau_syn)
    return peak / positive(c_m) + exponential.decay_to_peak(e_l, tau_m, tau_syn)


@label(units="pA", long_name="synaptic current")
@formula
def postsynaptic_potential_to_current(
    psp: ArrayLike, tau_m: ArrayLike, tau_syn: ArrayLike, c_m: ArrayLike = 1.0
) -> Array:
    """Synaptic current [pA] whose PSP has the peak `psp` [mV]: psp by the peak for 1 pA at e_l = 0.

    Args:
        psp: wanted peak [mV], negative for inhibition.
        tau_m: membrane time constant [ms], > 0.
        tau_syn: synaptic time constant [ms], > 0.
        c_m: membrane capacitance [pF], > 0.

    Returns:
        The current [pA], in the broadcast shape; NaN outside the domain.

    >>> print(f"{postsynaptic_potential_to_current(0.15, 10.0, 0.5, 250.0):.4f}")
    87.8085
    """
    psp, tau_m, tau_syn, c_m = same_rank(*as_floats(psp, tau_m, tau_syn, c_m))
    return psp * (positive(c_m) * exponential.inverse_peak(tau_m, tau_syn))


@label(units="ms", long_name="time to the peak of the PSP")
@formula
def psp_time_to_peak(tau_m: ArrayLike, tau_syn: ArrayLike) -> Array:
    """Time from the event to the peak of its PSP [ms].

    t* = ln(tau_syn/tau_m) / (1/tau_m - 1/tau_syn), with the limit tau_m at equal constants.

    Args:
        tau_m: membrane time constant [ms], > 0.
        tau_syn: synaptic time constant [ms], > 0.

    Returns:
        The time [ms], in the broadcast shape; NaN outside the domain.

    >>> print(f"{psp_time_to_peak(20.0, 5.0):.4f} {psp_time_to_peak(10.0, 10.0):.4f}")
    9.2420 10.0000
    """
    tau_m, tau_syn = same_rank(*as_floats(tau_m, tau_syn))
    return exponential.time_of_peak(
        exponential.valid_time_constant(tau_m), exponential.valid_time_constant(tau_syn)
    )


@label(units="mV/pA", long_name="PSP")
@formula
def psp_waveform(t: ArrayLike, tau_m: ArrayLike, tau_syn: ArrayLike, c_m: ArrayLike = 1.0) -> Array:
    """PSP at time t after an event of 1 pA [mV/pA].

    V(t) = tau_m tau_syn / (c_m (tau_syn - tau_m)) (exp(-t/tau_syn) - exp(-t/tau_m)), and
    t/c_m exp(-t/tau_m) at equal time constants.

    Args:
        t: time since the event [ms]; for t < 0 the potential is 0.
        tau_m: membrane time constant [ms], > 0.
        tau_syn: synaptic time constant [ms], > 0.
        c_m: membrane capacitance [pF], > 0.

    Returns:
        The potential [mV/pA], in the broadcast shape; NaN outside the domain. At t = 0 the
        derivative in t is the one from the right, 1/c_m. From t = 175 (float32) or 1417
        (float64) times the larger time constant on, t = inf included, the potential is 0, with
        its derivatives; it has fallen to 1e-73 or 1e-612 of its peak. The error is a few
        roundings times 1 + t / tau, tau the larger time constant, as that of exp(-t/tau).

    >>> import numpy as np
    >>> wave = psp_waveform(np.array([-1.0, 0.0, 10.0]), 10.0, 10.0)
    >>> print(np.asarray(wave, float).round(3))
    [0.    0.    3.679]
    """
    t, tau_m, tau_syn, c_m = same_rank(*as_floats(t, tau_m, tau_syn, c_m))
    wave = exponential.difference_of_exponentials(
        t, exponential.valid_time_constant(tau_m), exponential.valid_time_constant(tau_syn)
    )
    return wave / positive(c_m)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PspTrace:
    """The parameters of a recorded PSP, which `psp_trace` computes.

    >>> PspTrace(amplitude=0.5).tau_m
    10.0
    """

    baseline: Any = number("mV", "potential before the event, at t = 0", REAL, default=0.0)
    slope: Any = number("mV/ms", "drift of the baseline", REAL, default=0.0)
    amplitude: Any = number("mV", "peak of the PSP, negative for inhibition", REAL, default=1.0)
    onset: Any = number("ms", "time at which the PSP begins", REAL, default=0.0)
    tau_m: Any = number("ms", "membrane time constant", POSITIVE, default=10.0)
    tau_syn: Any = number("ms", "synaptic time constant", POSITIVE, default=2.0)


@label(units="mV", long_name="recorded potential")
def psp_trace(t: ArrayLike, params: PspTrace | Mapping[str, ArrayLike]) -> Array:
    """Membrane potential at time t of a recording with one PSP [mV].

    V(t) = baseline + slope t + amplitude P(t - onset) / max P, with P the waveform of
    `psp_waveform`. It is the same if tau_m and tau_syn are exchanged.

    Args:
        t: time in the recording [ms].
        params: a `PspTrace`, or a mapping of its fields; those that are left out have its
            defaults.

    Returns:
        The potential [mV], in the broadcast shape; NaN outside the domain. The derivative in
        the onset jumps where the PSP begins.

    Raises:
        TypeError: an unknown name in the mapping; a complex number.

    >>> import numpy as np
    >>> print(np.asarray(psp_trace(np.array([0.0, 4.0]), {"baseline": -65.0}), float).round(3))
    [-65. -64.]
    """
    if isinstance(params, Mapping):
        params = PspTrace(**params)
    return _trace(t, params)


@broadcast_any_rank
@in_single_precision
def _trace(t: ArrayLike, params: PspTrace) -> Array:
    peak = postsynaptic_current_to_potential(params.tau_m, params.tau_syn)
    shape = psp_waveform(t - params.onset, params.tau_m, params.tau_syn) / peak
    return params.baseline + params.slope * t + params.amplitude * shape
