"""Networks of several tests."""

from rbn_jax import Populations

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
