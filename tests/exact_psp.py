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


def bisect(function, low, high):
    """Where a function that is above 0 at low and below 0 at high crosses 0."""
    for _ in range(40):
        middle = (low + high) / 2
        if function(middle) > 0:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def newton(t, function, slope):
    for _ in range(6):
        t -= function(t) / slope(t)
    return t


def peak_time(rates):
    low, high = mp.mpf(0), 2 * sum(1 / rate for rate in rates)
    start = bisect(lambda t: response(t, rates, 1), low, high)
    return newton(start, lambda t: response(t, rates, 1), lambda t: response(t, rates, 2))


def crossing(rates, share, *, after_peak):
    t_peak = peak_time(rates)
    level = mp.mpf(share) * response(t_peak, rates)
    sign = 1 if after_peak else -1
    end = t_peak + 60 / min(rates) if after_peak else mp.mpf(0)
    low, high = (t_peak, end) if after_peak else (end, t_peak)
    start = bisect(lambda t: sign * (response(t, rates) - level), low, high)
    return newton(start, lambda t: response(t, rates) - level, lambda t: response(t, rates, 1))


def peak(synapse, *constants):
    factor, rates = decays(synapse, *constants)
    return factor * response(peak_time(rates), rates)


def time_to_peak(synapse, *constants):
    return peak_time(decays(synapse, *constants)[1])


def rise_time(synapse, *constants, low=0.1, high=0.9):
    rates = decays(synapse, *constants)[1]
    end = crossing(rates, high, after_peak=False)
    return end - crossing(rates, low, after_peak=False)


def half_width(synapse, *constants):
    rates = decays(synapse, *constants)[1]
    end = crossing(rates, 0.5, after_peak=True)
    return end - crossing(rates, 0.5, after_peak=False)


def waveform(t, synapse, *constants):
    factor, rates = decays(synapse, *constants)
    return factor * response(t, rates)


def derivatives(function, point):
    """Value, gradient and Hessian at a point by central differences."""
    n = len(point)
    steps = [number * mp.mpf(10) ** -20 for number in point]

    def at(**moves):
        moved = [number + moves.get(f"x{i}", 0) * steps[i] for i, number in enumerate(point)]
        return function(*moved)

    value = at()
    gradient = [None] * n
    hessian = [[None] * n for _ in range(n)]
    for i in range(n):
        above, below = at(**{f"x{i}": 1}), at(**{f"x{i}": -1})
        gradient[i] = (above - below) / (2 * steps[i])
        hessian[i][i] = (above - 2 * value + below) / steps[i] ** 2
        for j in range(i):
            total = mp.mpf(0)
            for sign_i, sign_j in [(1, 1), (1, -1), (-1, 1), (-1, -1)]:
                total += sign_i * sign_j * at(**{f"x{i}": sign_i, f"x{j}": sign_j})
            hessian[i][j] = hessian[j][i] = total / (4 * steps[i] * steps[j])
    return value, gradient, hessian
