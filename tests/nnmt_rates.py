"""Firing rates by NNMT, in its SI units: "shift" must agree with them.

NNMT is imported where it is used, since it is an optional dependency of the tests.
"""

import warnings

import numpy as np

import rbn_jax as rbn

MV = 1e-3
MS = 1e-3
# weight [V] of an external spike: so small that the external input has a mean and no noise
_SMALL_WEIGHT = 1e-12
SIZES = np.array([20683, 5834, 21915, 5479, 4850, 1065, 14395, 2948])
PROBABILITIES = np.array(
    [
        [0.1009, 0.1689, 0.0437, 0.0818, 0.0323, 0.0, 0.0076, 0.0],
        [0.1346, 0.1371, 0.0316, 0.0515, 0.0755, 0.0, 0.0042, 0.0],
        [0.0077, 0.0059, 0.0497, 0.135, 0.0067, 0.0003, 0.0453, 0.0],
        [0.0691, 0.0029, 0.0794, 0.1597, 0.0033, 0.0, 0.1057, 0.0],
        [0.1004, 0.0622, 0.0505, 0.0057, 0.0831, 0.3726, 0.0204, 0.0],
        [0.0548, 0.0269, 0.0257, 0.0022, 0.06, 0.3158, 0.0086, 0.0],
        [0.0156, 0.0066, 0.0211, 0.0166, 0.0572, 0.0197, 0.0396, 0.2252],
        [0.0364, 0.001, 0.0034, 0.0005, 0.0277, 0.008, 0.0658, 0.1443],
    ]
)
EXTERNAL = np.array([1600, 1500, 2100, 1900, 2000, 1900, 2900, 2100])


def solve(**arguments):
    """Return rates [spikes/s] by NNMT's least squares with shifted limits."""
    with warnings.catch_warnings():
        # Python warns of invalid escapes in NNMT's docstrings when it compiles them at import
        warnings.simplefilter("ignore")
        from nnmt.lif.exp import _firing_rates
    return _firing_rates(**arguments, fixpoint_method="LSTSQ", method="shift")


def rates_of_network(net):
    """Return the rates [spikes/s] of E and I; all synapses have the time constant tau_syn_ex."""
    js = np.asarray(rbn.calculate_RBN_weights(net), float)
    sizes = np.array([net.N_E, net.N_I])
    tau_m = np.array([net.tau_E, net.tau_I])
    v_th = np.array([net.V_th_E, net.V_th_I])
    drive = np.array([net.I_th_E, net.I_th_I]) * (v_th - net.E_L) + net.E_L - net.V_r
    return solve(
        J=net.s * js / np.sqrt(sizes.sum()) * net.tau_syn_ex / net.C_m * MV,
        K=net.baseline_conn_prob * sizes,
        V_0_rel=0.0,
        V_th_rel=(v_th - net.V_r) * MV,
        tau_m=tau_m * MS,
        tau_r=net.t_ref * MS,
        tau_s=net.tau_syn_ex * MS,
        J_ext=_SMALL_WEIGHT * np.eye(2),
        K_ext=np.diag(drive * MV / (tau_m * MS) / _SMALL_WEIGHT),
        nu_ext=np.ones(2),
        nu_0=np.full(2, 4.0),
    )


def microcircuit():
    """Return weights [mV], in-degrees and the weight of an external spike [mV].

    The network is the cortical column of Potjans & Diesmann (2014), doi 10.1093/cercor/bhs358.
    """
    pairs = np.outer(SIZES, SIZES)
    indegrees = np.log(1 - PROBABILITIES) / np.log(1 - 1 / pairs) / SIZES[:, None]
    weight = 87.81 * 0.5 / 250.0  # pA ms / pF = mV
    weights = np.full((8, 8), weight)
    weights[:, 1::2] *= -4
    weights[0, 2] *= 2
    return weights, indegrees, weight


def rates_of_microcircuit():
    """Return the rates [spikes/s] of the microcircuit."""
    weights, indegrees, weight = microcircuit()
    return solve(
        J=weights * MV,
        K=indegrees,
        V_0_rel=0.0,
        V_th_rel=15.0 * MV,
        tau_m=10.0 * MS,
        tau_r=2.0 * MS,
        tau_s=0.5 * MS,
        J_ext=np.full((8, 1), weight) * MV,
        K_ext=EXTERNAL[:, None],
        nu_ext=np.array([8.0]),
        nu_0=np.full(8, 4.0),
    )
