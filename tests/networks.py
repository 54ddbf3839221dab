"""Networks of several tests."""

import numpy as np

from rbn_jax import NetworkParams, Populations

TWO_STATES = Populations(
    weights=[[0.9]],
    indegrees=[[100.0]],
    connection_prob=0.1,
    tau_m=20.0,
    tau_syn=5.0,
    t_ref=2.0,
    V_th=20.0,
    V_r=0.0,
    mu_ext=10.0,
    sigma_ext=3.0,
)


def random_values(count):
    """Return parameters of networks, several percent of which have several states."""
    uniform = np.random.default_rng(2026).uniform
    return {
        "gei": uniform(0.9, 1.3, count),
        "I_th_E": uniform(0.7, 2.5, count),
        "I_th_I": uniform(0.5, 2.5, count),
        "s": uniform(0.5, 1.5, count),
        "t_ref": uniform(0.5, 6, count),
        "tau_I": uniform(5, 25, count),
        "N_I": uniform(300, 5000, count).round(),
    }


def unclustered(**values):
    """Return NEST's network without clusters, in which these values are changed."""
    return NetworkParams(**{"rep": 1.0} | values)
