"""The PSP over time."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from rbn_jax.parameters.checks import check_domain, raise_if_any
from rbn_jax.parameters.domains import POSITIVE
from rbn_jax.psp import psp_time_to_peak, psp_waveform

_N_TIMES = 1000


def plot_psp(
    tau_m: ArrayLike,
    tau_syn: ArrayLike,
    c_m: ArrayLike = 1.0,
    ax: Axes | None = None,
) -> Axes:
    """Draw the PSP to an event of 1 pA over time [mV/pA], with a dot at its peak.

    Arrays give one line for each element; they broadcast against one another.

    Args:
        tau_m, tau_syn: membrane and synaptic time constants [ms], > 0.
        c_m: membrane capacitance [pF], > 0.
        ax: axes to draw on; None: a new figure.

    Returns:
        The axes.

    Raises:
        ValueError: a time constant or capacitance that is not positive, arrays that do not
            broadcast, or an empty array.

    >>> ax = plot_psp([10.0, 20.0], 5.0)
    >>> len(ax.lines)  # two curves and two peaks
    4
    """
    constants = {"tau_m": tau_m, "tau_syn": tau_syn, "c_m": c_m}
    messages = [check_domain(name, value, POSITIVE) for name, value in constants.items()]
    raise_if_any(messages, "Nothing was drawn.")
    tau_m, tau_syn, c_m = np.broadcast_arrays(tau_m, tau_syn, c_m)
    if not c_m.size:
        raise ValueError("there are no time constants to draw")
    ax = ax or plt.subplots()[1]
    times = np.linspace(0, 8 * np.maximum(tau_m, tau_syn).max(), _N_TIMES)
    for membrane, synapse, capacitance in zip(tau_m.flat, tau_syn.flat, c_m.flat, strict=True):
        label = rf"$\tau_m$ = {membrane:g} ms, $\tau_{{syn}}$ = {synapse:g} ms"
        if np.ptp(c_m):
            label = f"$C_m$ = {capacitance:g} pF, {label}"
        potential = np.asarray(psp_waveform(times, membrane, synapse, capacitance))
        (line,) = ax.plot(times, potential, label=label)
        peak_time = float(psp_time_to_peak(membrane, synapse))
        peak = float(psp_waveform(peak_time, membrane, synapse, capacitance))
        ax.plot(peak_time, peak, "o", color=line.get_color())
    ax.set(xlabel="Time since the event [ms]", ylabel="PSP [mV/pA]")
    ax.legend()
    return ax
