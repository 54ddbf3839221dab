"""What a user without rbn_jax would write: the textbook formulas, vectorised in NumPy."""

import numpy as np


def postsynaptic_current_to_potential(tau_m, tau_syn, c_m=1.0, e_l=0.0):
    t_max = np.log(tau_syn / tau_m) / (1 / tau_m - 1 / tau_syn)
    scale = tau_m * tau_syn / c_m / (tau_syn - tau_m)
    return (e_l - scale) * np.exp(-t_max / tau_m) + scale * np.exp(-t_max / tau_syn)


def postsynaptic_potential_to_current(psp, tau_m, tau_syn, c_m=1.0):
    return psp / postsynaptic_current_to_potential(tau_m, tau_syn, c_m)


def rheobase_current(tau_m, e_l, v_th, c_m):
    return (v_th - e_l) * c_m / tau_m


def calculate_RBN_weights(params):
    """(..., 2, 2) weights; the time constants may be arrays."""
    size_e, size_i, prob = params["N_E"], params["N_I"], params["baseline_conn_prob"]
    tau, syn = (params["tau_E"], params["tau_I"]), (params["tau_syn_ex"], params["tau_syn_in"])
    amp = [[postsynaptic_current_to_potential(m, s) for s in syn] for m in tau]
    root = (size_e + size_i) ** 0.5
    js = np.zeros((*np.broadcast_shapes(*map(np.shape, (*tau, *syn))), 2, 2), amp[0][0].dtype)
    height_e, height_i = params["V_th_E"] - params["E_L"], params["V_th_I"] - params["E_L"]
    k_ee, k_ie = prob[0][0] * size_e, prob[1][0] * size_e
    js[..., 0, 0] = height_e * k_ee**-0.5 * root / amp[0][0]
    js[..., 1, 0] = params["gie"] * height_i * k_ie**-0.5 * root / amp[1][0]
    for row, (g, k) in enumerate(((params["gei"], k_ee), (params["gii"], k_ie))):
        ratio = k * amp[row][0] / (prob[row][1] * size_i * amp[row][1])
        js[..., row, 1] = -g * js[..., row, 0] * ratio
    return js


def jacobian(function, x):
    """Central differences in every input: what is left without derivatives."""
    found = []
    for i, v in enumerate(x):
        h = np.cbrt(np.finfo(v.dtype).eps) * v
        above, below = ([*x[:i], v + sign * h, *x[i + 1 :]] for sign in (1, -1))
        rise = function(*above) - function(*below)
        found.append(rise / (2 * h).reshape(h.shape + (1,) * (rise.ndim - h.ndim)))
    return found
