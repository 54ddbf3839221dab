"""The formulas as they stand in the paper, in mpmath: truth for every edge.

Derivatives are central differences with steps of 1e-40 and 1e-25 of the smaller time
constant at 200 digits, so their own error is below 1e-45.
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


def peak_with_rest(a, b, c, e_l):
    """NEST's formula, its term in e_l included."""
    return peak(a, b) / c + e_l * mp.exp(-time_to_peak(a, b) / a)


def gradient(f, *x):
    step = min(v for v in x if v > 0) * mp.mpf(10) ** -40
    return [(f(*_at(x, i, step)) - f(*_at(x, i, -step))) / (2 * step) for i in range(len(x))]


def hessian(f, *x):
    step = min(v for v in x if v > 0) * mp.mpf(10) ** -25

    def mixed(i, j):
        signs = [(1, 1), (1, -1), (-1, 1), (-1, -1)]
        return sum(p * q * f(*_at(_at(x, i, p * step), j, q * step)) for p, q in signs)

    return [[mixed(i, j) / (4 * step**2) for j in range(len(x))] for i in range(len(x))]


def _at(x, i, step):
    return [v + step if k == i else v for k, v in enumerate(x)]


def weights(params):
    """The 2x2 weights, every product of the reference written out, with C_m in the peaks."""
    p = {name: mp.mpf(value) for name, value in params.items() if name != "baseline_conn_prob"}
    prob = [[mp.mpf(float(v)) for v in row] for row in params["baseline_conn_prob"]]
    size, tau = (p["N_E"], p["N_I"]), (p["tau_E"], p["tau_I"])
    syn, height = (
        (p["tau_syn_ex"], p["tau_syn_in"]),
        (p["V_th_E"] - p["E_L"], p["V_th_I"] - p["E_L"]),
    )
    amp = [[peak(tau[i], syn[j]) / p["C_m"] for j in (0, 1)] for i in (0, 1)]
    out = []
    for i, (g_ex, g_in) in enumerate(((1, p["gei"]), (p["gie"], p["gii"]))):
        ex = g_ex * height[i] * mp.sqrt(sum(size)) / mp.sqrt(prob[i][0] * size[0]) / amp[i][0]
        inh = -g_in * ex * prob[i][0] * size[0] * amp[i][0] / (prob[i][1] * size[1] * amp[i][1])
        out.append([ex, inh])
    return out
