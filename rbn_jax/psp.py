"""One event on a synapse: its waveform, its peak, its other features, and a recorded trace of it.

An event of 1 pA on a synapse has a current that starts, or has its peak, at 1 pA. It charges a
membrane with tau_m and c_m, whose response is the post-synaptic potential (PSP) V(t). With the
argument `synapse` a function is about that kind, as NEST defines its weight:

    "exp"    exp(-t/tau_syn)                                 iaf_psc_exp and others
    "alpha"  t/tau_syn exp(1 - t/tau_syn), with the peak 1   iaf_psc_alpha and others
    "beta"   n (exp(-t/tau_syn) - exp(-t/tau_rise)), with n such that the peak is 1; the two time
             constants can be exchanged
    "delta"  a charge that moves the potential by 1 mV       iaf_psc_delta and others

So for "delta" the weight is in mV, and its PSP exp(-t/tau_m) is in mV per mV: neither c_m nor
tau_syn, which may be 0, has an effect. For "exp"

    V(t) = tau_m tau_syn / (c_m (tau_syn - tau_m)) (exp(-t/tau_syn) - exp(-t/tau_m)),

and t/c_m exp(-t/tau_m) at equal time constants, which is symmetric in the two. All functions are
elementwise over inputs that broadcast, and differentiable to any order. Outside the domain they
return NaN. Inputs in float16 and bfloat16 are computed with in float32, and the result has their
dtype. Complex inputs are a TypeError; another synapse is a ValueError, and so is a `tau_rise`
without "beta", or "beta" without it.

Values, first and second derivatives for "exp" are exact to rounding for every pair of time
constants from 2e-31 to 4e37 ms in float32 and from 2e-292 to 2e307 ms in float64, whatever their
ratio; where they change their sign, relative to their largest term. Exceptions are numbers that the
dtype cannot hold: where one derivative is above 8e37 (4e307 in float64), others of its order may be
NaN, and what is below 1e-38 (2e-308) is 0. Derivatives of higher order have no such promise.
For the other synapses, and for rise times and half widths, they are within a few roundings for
ratios of time constants from 1e-3 to 1e3, also where two or all three are equal or nearly so.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import jax
from jax import Array
from jax.typing import ArrayLike

from rbn_jax.numerics import features, synapses
from rbn_jax.numerics.arrays import (
    as_floats,
    broadcast_any_rank,
    formula,
    in_single_precision,
    nan_unless,
    positive,
    same_rank,
)
from rbn_jax.parameters.checks import check_domain, raise_if_any
from rbn_jax.parameters.domains import NOT_NEGATIVE, POSITIVE, REAL, number
from rbn_jax.parameters.labels import label

Synapse = Literal["exp", "alpha", "delta", "beta"]
"""A kind of synapse: see `rbn_jax.psp`."""


def check_constants(
    tau_m: object, tau_syn: object, c_m: object, synapse: Synapse, tau_rise: object
) -> None:
    """Raise a ValueError that names each number outside its domain, or a wrong kind of synapse."""
    _check_synapse(synapse, tau_rise)
    tau_syn_domain = NOT_NEGATIVE if synapse == "delta" else POSITIVE
    messages = [
        check_domain("tau_m", tau_m, POSITIVE, "ms"),
        check_domain("tau_syn", tau_syn, tau_syn_domain, "ms"),
        check_domain("c_m", c_m, POSITIVE, "pF"),
    ]
    if tau_rise is not None:
        messages.append(check_domain("tau_rise", tau_rise, POSITIVE, "ms"))
    raise_if_any(messages, "Nothing was computed.")


def _check_synapse(synapse: Synapse, tau_rise: object) -> None:
    if synapse not in synapses.SYNAPSES:
        valid = ", ".join(synapses.SYNAPSES)
        raise ValueError(f"synapse is {synapse!r}: must be one of {valid}")
    if synapse == "beta" and tau_rise is None:
        raise ValueError('synapse is "beta", which needs tau_rise')
    if synapse != "beta" and tau_rise is not None:
        raise ValueError(f'tau_rise is given, but synapse is "{synapse}": only "beta" has one')


def _as_time_constants(
    synapse: Synapse, tau_rise: ArrayLike | None, *numbers: ArrayLike
) -> tuple[synapses.TimeConstants, tuple[Array, ...]]:
    """Return the time constants, of which tau_m and tau_syn are the first numbers, and the others.

    All are arrays of one dtype and rank, or of none.

    Raises:
        ValueError: an unknown synapse; a tau_rise without "beta"; "beta" without it.
    """
    _check_synapse(synapse, tau_rise)
    if tau_rise is None:
        tau_m, tau_syn, *others = same_rank(*as_floats(*numbers))
        return synapses.TimeConstants(synapse, tau_m, tau_syn, None), tuple(others)
    rise, tau_m, tau_syn, *others = same_rank(*as_floats(tau_rise, *numbers))
    return synapses.TimeConstants(synapse, tau_m, tau_syn, rise), tuple(others)


@label(units="mV", long_name="peak of the PSP")
@formula
def postsynaptic_current_to_potential(
    tau_m: ArrayLike,
    tau_syn: ArrayLike,
    c_m: ArrayLike = 1.0,
    e_l: ArrayLike | None = None,
    *,
    synapse: Synapse = "exp",
    tau_rise: ArrayLike | None = None,
) -> Array:
    """Peak of the PSP to an event of 1 pA, or to one of 1 mV on a "delta" synapse [mV].

    For "exp" it is max V = tau_m / c_m (tau_m/tau_syn)^(tau_m / (tau_syn - tau_m)), with the limit
    tau_m / (e c_m) at equal time constants. For "alpha", with a = tau_m/tau_syn and
    t* = tau_m u/(a - 1), where (exp(u) - 1)/u = a, it is
    e tau_m / (c_m tau_syn) t* exp(-t*/tau_syn). For "beta" the time to the peak is found by
    Newton's method, and for "delta" the peak is 1.

    With `e_l` the result is larger by e_l exp(-t*/tau_m), where t* is the time to peak. This term
    is that of NEST's function. It is what remains at time t* of a membrane that is e_l above rest
    at the event. So with e_l != 0 the result is no depolarisation: the amplitude of the PSP is the
    value without it.

    Args:
        tau_m: membrane time constant [ms], > 0.
        tau_syn: synaptic time constant [ms], > 0; >= 0 and without effect for "delta".
        c_m: membrane capacitance [pF], > 0; without effect for "delta".
        e_l: resting potential [mV]; None is 0, and takes less time for "alpha": the peak is then
            computed without its time.
        synapse: "exp", "alpha", "delta" or "beta", as `rbn_jax.psp` says.
        tau_rise: other time constant of a "beta" synapse [ms], > 0.

    Returns:
        The peak [mV], in the broadcast shape; NaN outside the domain.

    Raises:
        ValueError: an unknown synapse; a tau_rise without "beta", or "beta" without it.

    Source: the function of this name in NEST's EI_clustered_network/helper.py; Rostami et al.
    (2020), doi 10.1101/2020.02.27.968339, Eqs. 7-10. For the other synapses the currents of
    NEST's models iaf_psc_alpha and iaf_psc_delta.

    >>> print(f"{postsynaptic_current_to_potential(20.0, 5.0):.5f}")
    3.14980
    >>> print(f"{postsynaptic_current_to_potential(10.0, 10.0):.5f}")
    3.67879
    >>> print(f"{postsynaptic_current_to_potential(20.0, 5.0, synapse='alpha'):.4f}")
    7.5126
    """
    rest = () if e_l is None else (e_l,)
    constants, (c_m, *rest) = _as_time_constants(synapse, tau_rise, tau_m, tau_syn, c_m, *rest)
    peak = synapses.peak(constants) / synapses.capacitance(synapse, c_m)
    return peak + synapses.decay_to_peak(rest[0], constants) if rest else peak


@label(units="pA", long_name="synaptic current")
@formula
def postsynaptic_potential_to_current(
    psp: ArrayLike = 1.0,
    tau_m: ArrayLike | None = None,
    tau_syn: ArrayLike | None = None,
    c_m: ArrayLike = 1.0,
    *,
    synapse: Synapse = "exp",
    tau_rise: ArrayLike | None = None,
    C_m: ArrayLike | None = None,
) -> Array:
    """Weight [pA] whose PSP has the peak `psp` [mV]: psp by the peak for 1 pA at e_l = 0.

    Without `psp` it is the factor [pA/mV] that NEST's microcircuit example calls by this name,
    with the arguments C_m, tau_m and tau_syn.

    Args:
        psp: wanted peak [mV], negative for inhibition.
        tau_m: membrane time constant [ms], > 0.
        tau_syn: synaptic time constant [ms], > 0; >= 0 and without effect for "delta".
        c_m: membrane capacitance [pF], > 0; without effect for "delta".
        synapse: "exp", "alpha", "delta" or "beta", as `rbn_jax.psp` says.
        tau_rise: other time constant of a "beta" synapse [ms], > 0.
        C_m: another name of c_m.

    Returns:
        The weight [pA], [mV] for "delta", in the broadcast shape; NaN outside the domain.

    Raises:
        TypeError: tau_m or tau_syn is not given; c_m and C_m are both given.
        ValueError: an unknown synapse; a tau_rise without "beta", or "beta" without it.

    >>> print(f"{postsynaptic_potential_to_current(0.15, 10.0, 0.5, 250.0):.4f}")
    87.8085
    >>> print(f"{postsynaptic_potential_to_current(C_m=250.0, tau_m=10.0, tau_syn=0.5):.3f}")
    585.390
    """
    if tau_m is None or tau_syn is None:
        raise TypeError("postsynaptic_potential_to_current needs tau_m and tau_syn")
    if C_m is not None:
        if not (isinstance(c_m, float) and c_m == 1.0):
            raise TypeError("c_m and C_m are both given: they are two names of the capacitance")
        c_m = C_m
    constants, (psp, c_m) = _as_time_constants(synapse, tau_rise, tau_m, tau_syn, psp, c_m)
    return psp * (synapses.capacitance(synapse, c_m) * synapses.inverse_peak(constants))


@label(units="ms", long_name="time to the peak of the PSP")
@formula
def psp_time_to_peak(
    tau_m: ArrayLike,
    tau_syn: ArrayLike,
    *,
    synapse: Synapse = "exp",
    tau_rise: ArrayLike | None = None,
) -> Array:
    """Time from the event to the peak of its PSP [ms].

    For "exp" it is t* = ln(tau_syn/tau_m) / (1/tau_m - 1/tau_syn), with the limit tau_m at equal
    constants. For "alpha" it is tau_m u/(a - 1) with (exp(u) - 1)/u = a = tau_m/tau_syn, 2 tau_m
    at equal constants; for "delta" 0; for "beta" the root of dV/dt.

    Args:
        tau_m: membrane time constant [ms], > 0.
        tau_syn: synaptic time constant [ms], > 0; >= 0 and without effect for "delta".
        synapse: "exp", "alpha", "delta" or "beta", as `rbn_jax.psp` says.
        tau_rise: other time constant of a "beta" synapse [ms], > 0.

    Returns:
        The time [ms], in the broadcast shape; NaN outside the domain.

    Raises:
        ValueError: an unknown synapse; a tau_rise without "beta", or "beta" without it.

    >>> print(f"{psp_time_to_peak(20.0, 5.0):.4f} {psp_time_to_peak(10.0, 10.0):.4f}")
    9.2420 10.0000
    >>> print(f"{psp_time_to_peak(20.0, 5.0, synapse='alpha'):.4f}")
    15.5778
    """
    constants, _ = _as_time_constants(synapse, tau_rise, tau_m, tau_syn)
    return synapses.time_of_peak(constants)


@label(units="mV/pA", long_name="PSP")
@formula
def psp_waveform(
    t: ArrayLike,
    tau_m: ArrayLike,
    tau_syn: ArrayLike,
    c_m: ArrayLike = 1.0,
    *,
    synapse: Synapse = "exp",
    tau_rise: ArrayLike | None = None,
) -> Array:
    """PSP at time t after an event of 1 pA, or of 1 mV on a "delta" synapse [mV/pA or mV/mV].

    For "exp" it is V(t) = tau_m tau_syn / (c_m (tau_syn - tau_m)) (exp(-t/tau_syn) -
    exp(-t/tau_m)), and t/c_m exp(-t/tau_m) at equal time constants; for "delta" exp(-t/tau_m).
    For "alpha" and "beta" it is the convolution of three exponential decays, times a factor.

    Args:
        t: time since the event [ms]; for t < 0 the potential is 0.
        tau_m: membrane time constant [ms], > 0.
        tau_syn: synaptic time constant [ms], > 0; >= 0 and without effect for "delta".
        c_m: membrane capacitance [pF], > 0; without effect for "delta".
        synapse: "exp", "alpha", "delta" or "beta", as `rbn_jax.psp` says.
        tau_rise: other time constant of a "beta" synapse [ms], > 0.

    Returns:
        The potential, in the broadcast shape; NaN outside the domain. At t = 0 the
        derivative in t is the one from the right, 1/c_m for "exp". For "exp" the potential is 0
        with its derivatives from t = 175 (float32) or 1417 (float64) times the larger time
        constant on, t = inf included; it has fallen to 1e-73 or 1e-612 of its peak. The error is a
        few roundings times 1 + t / tau, tau the larger time constant, as that of exp(-t/tau).

    Raises:
        ValueError: an unknown synapse; a tau_rise without "beta", or "beta" without it.

    >>> import numpy as np
    >>> wave = psp_waveform(np.array([-1.0, 0.0, 10.0]), 10.0, 10.0)
    >>> print(np.asarray(wave, float).round(3))
    [0.    0.    3.679]
    """
    constants, (t, c_m) = _as_time_constants(synapse, tau_rise, tau_m, tau_syn, t, c_m)
    return synapses.waveform(t, constants) / synapses.capacitance(synapse, c_m)


@label(units="ms", long_name="rise time of the PSP")
@formula
def psp_rise_time(
    tau_m: ArrayLike,
    tau_syn: ArrayLike,
    low: ArrayLike = 0.1,
    high: ArrayLike = 0.9,
    *,
    synapse: Synapse = "exp",
    tau_rise: ArrayLike | None = None,
) -> Array:
    """Time in which a PSP rises from a low to a high share of its peak, 10 % to 90 % [ms].

    Args:
        tau_m: membrane time constant [ms], > 0.
        tau_syn: synaptic time constant [ms], > 0; >= 0 and without effect for "delta".
        low, high: shares of the peak, 0 < low < high < 1. Near 1 digits are lost, as the PSP has
            no slope at its peak.
        synapse: "exp", "alpha", "delta" or "beta", as `rbn_jax.psp` says.
        tau_rise: other time constant of a "beta" synapse [ms], > 0.

    Returns:
        The time [ms], in the broadcast shape, 0 for "delta"; NaN outside the domain.

    Raises:
        ValueError: an unknown synapse; a tau_rise without "beta", or "beta" without it.

    >>> print(f"{psp_rise_time(20.0, 5.0):.3f} {psp_rise_time(20.0, 5.0, synapse='alpha'):.3f}")
    5.121 8.828
    """
    constants, (low, high) = _as_time_constants(synapse, tau_rise, tau_m, tau_syn, low, high)
    return synapses.rise_time(low, high, constants)


class PspTimes(NamedTuple):
    """Times at which a PSP has shares of its peak, before and after it [ms], arrays (...).

    >>> psp_times_at_shares(0.5, 20.0, 5.0)._fields
    ('rising', 'falling')
    """

    rising: Array
    falling: Array


@formula
def psp_times_at_shares(
    share: ArrayLike,
    tau_m: ArrayLike,
    tau_syn: ArrayLike,
    *,
    synapse: Synapse = "exp",
    tau_rise: ArrayLike | None = None,
) -> PspTimes:
    """Times from the event at which a PSP has a share of its peak, before and after it [ms].

    Args:
        share: share of the peak, 0 < share < 1. Near 1 digits are lost, as the PSP has no slope
            at its peak.
        tau_m: membrane time constant [ms], > 0.
        tau_syn: synaptic time constant [ms], > 0; >= 0 and without effect for "delta".
        synapse: "exp", "alpha", "delta" or "beta", as `rbn_jax.psp` says.
        tau_rise: other time constant of a "beta" synapse [ms], > 0.

    Returns:
        A PspTimes of arrays in the broadcast shape; NaN outside the domain. Before the peak of
        "delta" the time is 0.

    Raises:
        ValueError: an unknown synapse; a tau_rise without "beta", or "beta" without it.

    >>> import numpy as np
    >>> print(np.asarray(psp_times_at_shares(0.5, 20.0, 5.0), float).round(3))
    [ 2.019 28.582]
    """
    constants, (share,) = _as_time_constants(synapse, tau_rise, tau_m, tau_syn, share)
    return PspTimes(
        rising=synapses.time_at_share(share, constants, after_peak=False),
        falling=synapses.time_at_share(share, constants, after_peak=True),
    )


@label(units="ms", long_name="half width of the PSP")
@formula
def psp_half_width(
    tau_m: ArrayLike,
    tau_syn: ArrayLike,
    *,
    synapse: Synapse = "exp",
    tau_rise: ArrayLike | None = None,
) -> Array:
    """Time for which a PSP is above half of its peak [ms].

    Args:
        tau_m: membrane time constant [ms], > 0.
        tau_syn: synaptic time constant [ms], > 0; >= 0 and without effect for "delta".
        synapse: "exp", "alpha", "delta" or "beta", as `rbn_jax.psp` says.
        tau_rise: other time constant of a "beta" synapse [ms], > 0.

    Returns:
        The time [ms], in the broadcast shape, tau_m ln 2 for "delta"; NaN outside the domain.

    Raises:
        ValueError: an unknown synapse; a tau_rise without "beta", or "beta" without it.

    >>> print(f"{psp_half_width(20.0, 5.0):.3f} {psp_half_width(20.0, 0.0, synapse='delta'):.3f}")
    26.562 13.863
    """
    constants, (half,) = _as_time_constants(synapse, tau_rise, tau_m, tau_syn, 0.5)
    end = synapses.time_at_share(half, constants, after_peak=True)
    return end - synapses.time_at_share(half, constants, after_peak=False)


@label(units="mV*ms/pA", long_name="area of the PSP")
@formula
def psp_area(
    tau_m: ArrayLike,
    tau_syn: ArrayLike,
    c_m: ArrayLike = 1.0,
    *,
    synapse: Synapse = "exp",
    tau_rise: ArrayLike | None = None,
) -> Array:
    """Integral of the PSP over time: tau_m / c_m times the charge of the event [mV ms/pA].

    The charge of an event of 1 pA is tau_syn for "exp", e tau_syn for "alpha", n times the
    difference of the two time constants for "beta". For "delta" the area is tau_m [mV ms/mV].

    Args:
        tau_m: membrane time constant [ms], > 0.
        tau_syn: synaptic time constant [ms], > 0; >= 0 and without effect for "delta".
        c_m: membrane capacitance [pF], > 0; without effect for "delta".
        synapse: "exp", "alpha", "delta" or "beta", as `rbn_jax.psp` says.
        tau_rise: other time constant of a "beta" synapse [ms], > 0.

    Returns:
        The area, in the broadcast shape; NaN outside the domain.

    Raises:
        ValueError: an unknown synapse; a tau_rise without "beta", or "beta" without it.

    >>> print(f"{psp_area(20.0, 5.0, 250.0):.3f}")
    0.400
    """
    constants, (c_m,) = _as_time_constants(synapse, tau_rise, tau_m, tau_syn, c_m)
    return synapses.integral(constants) / synapses.capacitance(synapse, c_m)


class PspIntegrals(NamedTuple):
    """Integrals of a PSP over time, arrays (...).

    area: of V [mV ms/pA]; [mV ms/mV] for "delta"
    squared: of V^2 [mV^2 ms/pA^2]; [mV^2 ms/mV^2] for "delta"

    >>> psp_integrals(20.0, 5.0)._fields
    ('area', 'squared')
    """

    area: Array
    squared: Array


@formula
def psp_integrals(
    tau_m: ArrayLike,
    tau_syn: ArrayLike,
    c_m: ArrayLike = 1.0,
    *,
    synapse: Synapse = "exp",
    tau_rise: ArrayLike | None = None,
) -> PspIntegrals:
    """Integrals of the PSP and of its square over time.

    Events at the rate nu with the weight J move the mean of the potential by nu J area, and add
    nu J^2 squared to its variance (Campbell's theorem). For "exp" the second integral is
    (tau_syn tau_m)^2 / (2 c_m^2 (tau_syn + tau_m)), for "delta" tau_m/2. For "alpha" and "beta",
    with Q the area, it is Q^2 (a b + a c + b c) / (2 (a + b) (a + c) (b + c)) for the time
    constants a = tau_m, b = tau_syn and c = tau_rise (tau_syn for "alpha").

    Args:
        tau_m: membrane time constant [ms], > 0.
        tau_syn: synaptic time constant [ms], > 0; >= 0 and without effect for "delta".
        c_m: membrane capacitance [pF], > 0; without effect for "delta".
        synapse: "exp", "alpha", "delta" or "beta", as `rbn_jax.psp` says.
        tau_rise: other time constant of a "beta" synapse [ms], > 0.

    Returns:
        A PspIntegrals of arrays in the broadcast shape; NaN outside the domain.

    Raises:
        ValueError: an unknown synapse; a tau_rise without "beta", or "beta" without it.

    >>> import numpy as np
    >>> print(np.asarray(psp_integrals(20.0, 5.0, 250.0), float).round(4))
    [0.4    0.0032]
    """
    constants, (c_m,) = _as_time_constants(synapse, tau_rise, tau_m, tau_syn, c_m)
    capacitance = synapses.capacitance(synapse, c_m)
    return PspIntegrals(
        area=synapses.integral(constants) / capacitance,
        squared=synapses.integral_of_square(constants) / (capacitance * capacitance),
    )


class PspTimeConstants(NamedTuple):
    """The two time constants of a PSP of an exponential synapse [ms], arrays (...).

    Which of them is that of the membrane its shape does not tell.

    >>> psp_time_constants(5.0, 25.0)._fields
    ('larger', 'smaller')
    """

    larger: Array
    smaller: Array


@formula
def psp_time_constants(
    rise_time: ArrayLike, half_width: ArrayLike, low: ArrayLike = 0.1, high: ArrayLike = 0.9
) -> PspTimeConstants:
    """Time constants of the exponential synapse's PSP that has this rise time and half width [ms].

    The ratio of the two times determines that of the time constants. It is largest for equal
    ones (0.2330 from 10 % to 90 %), near which the result is sensitive to it.

    Args:
        rise_time: time from a low to a high share of the peak [ms], > 0.
        half_width: time above half of the peak [ms], > 0.
        low, high: the shares, 0 < low < high < 1.

    Returns:
        A PspTimeConstants of arrays in the broadcast shape; NaN where no PSP has these times.

    >>> import numpy as np
    >>> constants = psp_time_constants(psp_rise_time(20.0, 5.0), psp_half_width(20.0, 5.0))
    >>> print(np.asarray(constants, float).round(3))
    [20.  5.]
    """
    rise_time, half_width, low, high = same_rank(*as_floats(rise_time, half_width, low, high))
    larger, smaller = features.time_constants(
        positive(rise_time), positive(half_width), low, nan_unless(low < high, high)
    )
    return PspTimeConstants(larger, smaller)


@label(units="ms", long_name="synaptic time constant")
@formula
def synaptic_time_constant(
    time_to_peak: ArrayLike, tau_m: ArrayLike, *, synapse: Synapse = "exp"
) -> Array:
    """Time constant of the synapse whose PSP has its peak at this time [ms].

    With x = time_to_peak/tau_m it is tau_m exp(-u), where (exp(u) - 1)/u = 1/x, for "exp", and
    tau_m u/(exp(u) - 1), where (exp(u) - 1 - u)/u^2 = 1/x, for "alpha".

    Args:
        time_to_peak: time from the event to the peak of its PSP [ms], > 0.
        tau_m: membrane time constant [ms], > 0.
        synapse: "exp" or "alpha". The others have two time constants, or none.

    Returns:
        The time constant [ms], in the broadcast shape; NaN outside the domain.

    Raises:
        ValueError: another synapse.

    >>> print(f"{synaptic_time_constant(1.700759, 10.0, synapse='alpha'):.6f}")
    0.325827
    """
    if synapse not in ("exp", "alpha"):
        raise ValueError(
            f"synapse is {synapse!r}: must be exp or alpha, whose one time constant follows from a "
            "time to the peak"
        )
    time_to_peak, tau_m = same_rank(*as_floats(time_to_peak, tau_m))
    return features.synaptic_time_constant(
        positive(time_to_peak), positive(tau_m), is_alpha=synapse == "alpha"
    )


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
