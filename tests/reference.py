"""The formulas of the paper in mpmath, with which the tests compare values and derivatives.

Derivatives are central differences with steps of 1e-40 and 1e-25 of the smaller time constant
at 200 digits, so their own error is below 1e-45.
"""

import mpmath as mp

DIGITS = 200


def time_to_peak(a, b):
    return a if a == b else mp.log(b / a) / (1 / a - 1 / b)


def waveform(t, a, b):
    if t < 0:
        return mp.mpf(0)
    if a == b:
        return t * mp.exp(-t / a)
    return a * b / (b - a) * (mp.exp(-t / b) - mp.exp(-t / a))


def peak(a, b):
    return waveform(time_to_peak(a, b), a, b)


def peak_with_rest(a, b, c_m, e_l):
    """The formula of NEST's example, with its term in e_l."""
    return peak(a, b) / c_m + e_l * mp.exp(-time_to_peak(a, b) / a)


def gradient(function, *point):
    step = min(number for number in point if number > 0) * mp.mpf(10) ** -40
    slopes = []
    for i in range(len(point)):
        above = function(*_moved(point, i, step))
        below = function(*_moved(point, i, -step))
        slopes.append((above - below) / (2 * step))
    return slopes


def hessian(function, *point):
    step = min(number for number in point if number > 0) * mp.mpf(10) ** -25

    def second_derivative(i, j):
        total = 0
        for sign_i, sign_j in [(1, 1), (1, -1), (-1, 1), (-1, -1)]:
            corner = _moved(_moved(point, i, sign_i * step), j, sign_j * step)
            total += sign_i * sign_j * function(*corner)
        return total / (4 * step**2)

    size = len(point)
    return [[second_derivative(i, j) for j in range(size)] for i in range(size)]


def _moved(point, index, step):
    """The point with one number moved by step."""
    moved = list(point)
    moved[index] += step
    return moved


def weights(params):
    """The 2x2 weights, every product of NEST's formula written out, with C_m in the peaks."""
    p = {name: mp.mpf(value) for name, value in params.items() if name != "baseline_conn_prob"}
    prob = [[mp.mpf(float(v)) for v in row] for row in params["baseline_conn_prob"]]
    sizes = (p["N_E"], p["N_I"])
    tau = (p["tau_E"], p["tau_I"])
    tau_syn = (p["tau_syn_ex"], p["tau_syn_in"])
    heights = (p["V_th_E"] - p["E_L"], p["V_th_I"] - p["E_L"])
    factors = ((1, p["gei"]), (p["gie"], p["gii"]))
    rows = []
    for i, (factor_ex, factor_in) in enumerate(factors):
        amplitudes = [peak(tau[i], tau_syn[j]) / p["C_m"] for j in (0, 1)]
        in_degrees = [prob[i][j] * sizes[j] for j in (0, 1)]
        excitatory = factor_ex * heights[i] * mp.sqrt(sum(sizes)) / mp.sqrt(in_degrees[0])
        excitatory /= amplitudes[0]
        balance = in_degrees[0] * amplitudes[0] / (in_degrees[1] * amplitudes[1])
        rows.append([excitatory, -factor_in * excitatory * balance])
    return rows
