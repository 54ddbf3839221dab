"""PSPs of all synapses and their features in mpmath, with which tests compare values.

Rates that are equal are moved apart by 1e-60 of them: the error is of that order, and 200 digits
leave enough for derivatives by differences.
"""

import mpmath as mp

DIGITS = 200


def decays(synapse, tau_m, tau_syn, tau_rise=None):
    """Factor and distinct rates of the exponential decays whose convolution the PSP is."""
    if synapse == "delta":
        return mp.mpf(1), [1 / tau_m]
    if synapse == "exp":
        rates = [1 / tau_m, 1 / tau_syn]
        factor = mp.mpf(1)
    elif synapse == "alpha":
        rates = [1 / tau_m, 1 / tau_syn, 1 / tau_syn]
        factor = mp.e / tau_syn
    else:
        rates = [1 / tau_m, 1 / tau_syn, 1 / tau_rise]
        pair = apart([1 / tau_syn, 1 / tau_rise])
        factor = 1 / response(peak_time(pair), pair)
    return factor, apart(rates)


def apart(rates):
    tiny = mp.mpf(10) ** -60
    return [rate * (1 + i * tiny) for i, rate in enumerate(rates)]


def response(t, rates, order=0):
    """The convolution of exp(-r t) for all rates r, or its derivative of some order in time."""
    total = mp.mpf(0)
    for i, rate in enumerate(rates):
        others = [other - rate for j, other in enumerate(rates) if j != i]
        total += (-rate) ** order * mp.exp(-rate * t) / mp.fprod(others)
    return total


def root(function, slope, low, high):
    """Where a function that is above 0 at low and below 0 at high is 0.

    Newton's method, or half of the interval where a step leads out of it.
    """
    t = (low + high) / 2
    for _ in range(300):
        value = function(t)
        low, high = (t, high) if value > 0 else (low, t)
        following = t - value / slope(t)
        if not low <= following <= high:
            following = (low + high) / 2
        if abs(following - t) <= t * mp.mpf(10) ** -40:  # the error is about the square
            return following
        t = following
    raise ArithmeticError("the search for a root has not ended")


def peak_time(rates):
    # that of two filters is after 1 / max(rates), and that of more is later
    low, high = 1 / sum(rates), 2 * sum(1 / rate for rate in rates)
    return root(lambda t: response(t, rates, 1), lambda t: response(t, rates, 2), low, high)


def rising_time(rates, share, t_peak):
    level = mp.mpf(share) * response(t_peak, rates)
    return root(
        lambda t: level - response(t, rates), lambda t: -response(t, rates, 1), mp.mpf(0), t_peak
    )


def falling_time(rates, share, t_peak):
    level = mp.mpf(share) * response(t_peak, rates)
    end = t_peak + 60 / min(rates)
    return root(lambda t: response(t, rates) - level, lambda t: response(t, rates, 1), t_peak, end)


def peak(synapse, *constants):
    factor, rates = decays(synapse, *constants)
    return factor * response(peak_time(rates), rates)


def time_to_peak(synapse, *constants):
    return peak_time(decays(synapse, *constants)[1])


def rise_time(synapse, *constants, low=0.1, high=0.9):
    rates = decays(synapse, *constants)[1]
    t_peak = peak_time(rates)
    return rising_time(rates, high, t_peak) - rising_time(rates, low, t_peak)


def half_width(synapse, *constants):
    rates = decays(synapse, *constants)[1]
    t_peak = peak_time(rates)
    return falling_time(rates, 0.5, t_peak) - rising_time(rates, 0.5, t_peak)


def waveform(t, synapse, *constants):
    factor, rates = decays(synapse, *constants)
    return factor * response(t, rates)


def derivatives(function, point, order):
    """Value, gradient and Hessian at a point, up to an order, by central differences."""
    n = len(point)
    steps = [number * mp.mpf(10) ** -20 for number in point]

    def at(**moves):
        moved = [number + moves.get(f"x{i}", 0) * steps[i] for i, number in enumerate(point)]
        return function(*moved)

    value = at()
    if order == 0:
        return (value,)
    gradient = [None] * n
    hessian = [[None] * n for _ in range(n)]
    for i in range(n):
        above, below = at(**{f"x{i}": 1}), at(**{f"x{i}": -1})
        gradient[i] = (above - below) / (2 * steps[i])
        hessian[i][i] = (above - 2 * value + below) / steps[i] ** 2
        for j in range(i if order == 2 else 0):
            total = mp.mpf(0)
            for sign_i, sign_j in [(1, 1), (1, -1), (-1, 1), (-1, -1)]:
                total += sign_i * sign_j * at(**{f"x{i}": sign_i, f"x{j}": sign_j})
            hessian[i][j] = hessian[j][i] = total / (4 * steps[i] * steps[j])
    return (value, gradient, hessian)[: order + 1]
