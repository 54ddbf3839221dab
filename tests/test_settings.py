"""Every public function works under the strictest settings of JAX, and without compiling."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pages import python_blocks, run_blocks, strict_settings

import rbn_jax as rbn
from rbn_jax import rates

NET = rbn.NetworkParams()
# of different ranks, (3, 1) and (2,)
COLUMN = np.array([[10.0], [20.0], [15.0]], np.float32)
ROW = np.array([5.0, 3.0], np.float32)


@pytest.mark.parametrize("page", ["README.md", "docs/conventions.md"])
def test_the_code_of_a_page_runs_without_compiling(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with jax.disable_jit():
        run_blocks(python_blocks(page))


FUNCTIONS = {
    "current_to_potential": rbn.postsynaptic_current_to_potential,
    "potential_to_current": lambda a, b: rbn.postsynaptic_potential_to_current(0.1, a, b),
    "time_to_peak": rbn.psp_time_to_peak,
    "waveform": lambda a, b: rbn.psp_waveform(b, a, 4.0),
    "trace": lambda a, b: rbn.psp_trace(a, rbn.PspTrace(onset=b)),
    "rheobase": lambda a, b: rbn.rheobase_current(a, -70.0, -50.0, b),
    "siegert": lambda a, b: rbn.siegert_rate(a, b, 20.0, 2.0, 20.0, 10.0, 0.5),
    "log_siegert": lambda a, b: rates.log_siegert_rate(a, b, 20.0, 2.0, 20.0, 10.0, 0.5),
    "weights": lambda a, b: rbn.calculate_RBN_weights(NET.replace(tau_E=a, tau_syn_ex=b)),
    "synaptic_weights": lambda a, b: rbn.synaptic_weights(NET.replace(tau_E=a, tau_syn_ex=b)),
    "elasticity": lambda a, b: jnp.asarray(
        rbn.elasticity(rbn.calculate_RBN_weights, NET.replace(tau_E=a, tau_I=b), ["gei"])[
            "calculate_RBN_weights"
        ].data
    ),
    "quenched": lambda a, b: rbn.firing_rates(NET.replace(tau_E=a, tau_I=2 * b)),
    "calibrate": lambda a, b: (
        rbn.calibrate(
            NET.replace(rep=1.0, gei=1 + a / 100, gii=1 + b / 50), (5.0, 8.0), theory="white"
        ).I_th_E
    ),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_arrays_of_different_ranks_broadcast(name):
    function = FUNCTIONS[name]
    expected = function(*np.broadcast_arrays(COLUMN, ROW))
    with strict_settings():
        np.testing.assert_allclose(function(COLUMN, ROW), expected, rtol=1e-5)


@pytest.mark.parametrize("name", sorted(FUNCTIONS.keys() - {"elasticity", "calibrate"}))
def test_derivatives_broadcast_arrays_of_different_ranks(name):
    """Also in a function that the user has compiled: JAX calls rules after the function."""

    @jax.jit
    def total(a, b):
        return FUNCTIONS[name](a, b).sum()

    def slope_sum(a, b):
        return jax.grad(total)(a, b).sum()

    column, row = jnp.asarray(COLUMN), jnp.asarray(ROW)
    with strict_settings():
        slope = jax.grad(total)(column, row)
        curvature = jax.grad(slope_sum)(column, row)
    assert slope.shape == curvature.shape == COLUMN.shape
    assert jnp.isfinite(slope).all()
    assert jnp.isfinite(curvature).all()


def test_states_and_fits_work_under_strict_settings():
    with strict_settings():
        (point,) = rbn.fixed_points(NET, "quenched")
        swept = rbn.sweep(
            rbn.calculate_RBN_weights,
            NET,
            {"gei": np.linspace(1, 2, 4), "tau_E": [10.0, 20.0]},
            reduce=["mean", rbn.reductions.Histogram(np.linspace(-50, 50, 5))],
        )
        fitted = rbn.fit(rbn.calculate_RBN_weights, NET, np.full((2, 2), 10.0), {"gei": (0.2, 5)})
    assert point.stable
    assert swept["calculate_RBN_weights_histogram"].sum() > 0
    assert fitted.status == "converged"
