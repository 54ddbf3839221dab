"""PSPs of all synapses and their features in mpmath, and the errors of the package beside them.

    python tests/exact_psp.py    prints the table of errors in docs/synapses.md (ten minutes)

Rates that are equal are moved apart by 1e-60 of them: the error is of that order, and 200 digits
leave enough for derivatives by differences.
"""

import jax
import mpmath as mp
import numpy as np

import rbn_jax as rbn

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


FEATURES = {
    "peak": (rbn.postsynaptic_current_to_potential, peak),
    "time_to_peak": (rbn.psp_time_to_peak, time_to_peak),
    "rise_time": (rbn.psp_rise_time, rise_time),
    "half_width": (rbn.psp_half_width, half_width),
}
N_CONSTANTS = {"exp": 2, "alpha": 2, "beta": 3}


def random_constants(n, dtype, count, seed=1):
    """Time constants with ratios of 1e-3 to 1e3, of which two or all are often nearly equal."""
    rng = np.random.default_rng(seed)
    smallest_gap = np.log10(np.finfo(dtype).eps)
    points = 10 ** rng.uniform(-1.5, 1.5, (count, n))
    for i, point in enumerate(points):
        gap = 10 ** rng.uniform(smallest_gap, -0.5)
        if i % 4 == 1:
            point[1] = point[0] * (1 + gap)
        if i % 4 == 2:
            point[1:] = point[0] * (1 + gap * rng.uniform(-1, 1, n - 1))
        if i % 4 == 3:
            point[-1] = point[-2] * (1 + gap)
        if i % 10 == 1:
            point[:] = point[0]
    return points.astype(dtype)


def feature(name, synapse):
    """The feature as a function of an array of all time constants."""
    function = FEATURES[name][0]

    def compute(constants):
        tau_m, tau_syn, *rest = constants
        options = {"tau_rise": rest[0]} if rest else {}
        return function(tau_m, tau_syn, synapse=synapse, **options)

    return compute


def computed_derivatives(function, points, order):
    """Value, gradient and Hessian at points, up to order 1 or 2, of one compiled program."""

    def with_hessian(constants):
        def gradient(constants):
            value, gradient = jax.value_and_grad(function)(constants)
            return gradient, (value, gradient)

        hessian, lower = jax.jacfwd(gradient, has_aux=True)(constants)
        return *lower, hessian

    compute = jax.value_and_grad(function) if order == 1 else with_hessian
    return jax.jit(jax.vmap(compute))(points)


def errors_in_eps(name, synapse, dtype, order, count=16):
    """Largest errors of value, gradient and Hessian, up to order 1 or 2, in units of eps.

    Those of derivatives are relative to the size that they have where elasticities are 1.
    """
    points = random_constants(N_CONSTANTS[synapse], dtype, count)
    computed = computed_derivatives(feature(name, synapse), points, order)
    to_mpmath = np.vectorize(lambda number: mp.mpf(float(number)), otypes=[object])
    largest = np.zeros(order + 1)

    def exact(*constants):
        return FEATURES[name][1](synapse, *constants)

    with mp.workdps(DIGITS):
        for point, *results in zip(points, *computed, strict=True):
            constants = to_mpmath(point)
            expected = derivatives(exact, list(constants), order)
            scale = expected[0]
            for i, result in enumerate(results):
                errors = np.abs(to_mpmath(result) - np.array(expected[i])) / scale
                largest[i] = max(largest[i], float(np.max(errors)) / np.finfo(dtype).eps)
                scale = np.multiply.outer(scale, 1 / constants)
    return largest


def main():
    print("| feature | synapse | value | gradient | Hessian |\n|---|---|---|---|---|")
    for name in FEATURES:
        for synapse in N_CONSTANTS:
            errors = np.zeros(3)
            for dtype in (np.float32, np.float64):
                with jax.enable_x64(dtype is np.float64):
                    errors = np.maximum(errors, errors_in_eps(name, synapse, dtype, order=2))
            label = name.replace("_", " ")
            print(f"| {label} | {synapse} | {errors[0]:.1f} | {errors[1]:.1f} | {errors[2]:.0f} |")


if __name__ == "__main__":
    main()
