"""Stability of states, and the state that `mean_field` returns where there are several."""

import dataclasses

import jax
import numpy as np
import pytest
from networks import TWO_STATES, random_values, unclustered

from rbn_jax import firing_rates, fixed_points, mean_field
from rbn_jax.numerics.stability import is_stable


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 8])
def test_stability_is_that_of_the_eigenvalues(dtype, size):
    """Half of the matrices are near the edge: their largest real part is about 0.05 or -0.05."""
    rng = np.random.default_rng(2026)
    matrices = 3 * rng.standard_normal((400, size, size))
    largest = np.linalg.eigvals(matrices).real.max(-1)
    offsets = largest + rng.choice([-1, 1], 400) * np.where(np.arange(400) % 2, 0.05, 2.0)
    matrices -= offsets[:, None, None] * np.eye(size)
    # neither large nor small relaxations overflow
    matrices *= rng.choice([1e-8, 1.0, 1e8], 400)[:, None, None]
    expected = np.linalg.eigvals(matrices).real.max(-1) < 0
    assert 150 < expected.sum() < 250
    jacobians = np.moveaxis(matrices, 0, -1).astype(dtype)
    np.testing.assert_array_equal(jax.jit(is_stable)(jacobians), expected)


@pytest.mark.parametrize("size", [2, 3, 4, 6])
def test_stability_is_found_where_one_eigenvalue_is_much_larger(dtype, size):
    """As in a network of 5e7 neurons, whose relaxations differ by a factor of 400."""
    rng = np.random.default_rng(2026)
    vectors = rng.standard_normal((400, size, size))
    vectors = vectors[np.linalg.cond(vectors) < 20][:100]
    assert len(vectors) == 100 or size > 3
    values = -rng.uniform(0.7, 1.5, (len(vectors), size))
    values[:, 0] = -1000
    values[::2, -1] *= -1
    matrices = vectors * values[:, None] @ np.linalg.inv(vectors)
    jacobians = np.moveaxis(matrices, 0, -1).astype(dtype)
    np.testing.assert_array_equal(is_stable(jacobians), np.arange(len(vectors)) % 2 == 1)


def test_matrices_that_are_not_finite_are_not_stable(dtype):
    jacobians = np.full((2, 2, 1), np.nan, dtype)
    assert not is_stable(jacobians)


def test_a_sweep_stays_on_the_lowest_branch_to_its_fold(dtype):
    """The lowest state is stable, and it is the first of `fixed_points`."""
    mu_ext = np.linspace(8.0, 16.0, 81, dtype=dtype)[:, None]
    state = mean_field(dataclasses.replace(TWO_STATES, mu_ext=mu_ext), "white")
    assert np.asarray(state.stable).all()
    ln_rates = np.log(np.asarray(state.rates)[:, 0])
    jumps = np.flatnonzero(np.diff(ln_rates) > 2)
    assert len(jumps) == 1
    for i in (0, int(jumps[0]), int(jumps[0]) + 1):
        points = fixed_points(dataclasses.replace(TWO_STATES, mu_ext=mu_ext[i]), "white")
        stable = [point for point in points if point.stable]
        np.testing.assert_allclose(state.rates[i], stable[0].rates, rtol=1e-3)
        assert bool(state.several_states[i]) == (len(points) > 1)

    # the derivative is that along the branch
    def rate(mu):
        return firing_rates(dataclasses.replace(TWO_STATES, mu_ext=mu), "white")[0]

    slope = jax.grad(rate)(mu_ext[20, 0])
    secant = (state.rates[21, 0] - state.rates[19, 0]) / (mu_ext[21, 0] - mu_ext[19, 0])
    np.testing.assert_allclose(slope, secant, rtol=0.02)


def test_a_start_that_leads_nowhere_is_followed_by_others():
    """Newton steps from the low start fail in these networks, which have a low stable state."""
    rng = np.random.default_rng(1)
    values = {
        "gei": rng.uniform(1, 2, 200),
        "gii": rng.uniform(1, 2, 200),
        "N_E": (10 ** rng.uniform(3.6, 6, 200)).round(),
        "N_I": (10 ** rng.uniform(3, 5.4, 200)).round(),
        "I_th_E": rng.uniform(0.8, 4, 200),
        "I_th_I": rng.uniform(0.5, 3, 200),
    }
    with jax.enable_x64(True):
        state = jax.tree.map(np.asarray, mean_field(unclustered(**values), "white"))
        lower = 0
        for i in np.flatnonzero(state.rates[:, 0] > 100):
            params = unclustered(**{name: array[i] for name, array in values.items()})
            first = next(point for point in fixed_points(params, "white") if point.stable)
            lower += first.rates[0] < 0.9 * state.rates[i, 0]
    assert lower <= 2


def test_float32_and_float64_return_the_same_state():
    """All but networks near a fold or with a lowest state that few starts find."""
    values = random_values(1000)
    with jax.enable_x64(True):
        expected = jax.tree.map(np.asarray, mean_field(unclustered(**values), "white"))
    single = {name: array.astype(np.float32) for name, array in values.items()}
    state = jax.tree.map(np.asarray, mean_field(unclustered(**single), "white"))
    assert state.rates.dtype == np.float32
    several = expected.several_states
    assert several.sum() > 30
    assert expected.converged.all()
    tolerance = 1e-3 + 0.05 * expected.rates
    agree = (np.abs(state.rates - expected.rates) <= tolerance).all(-1)
    assert (~agree & several).sum() <= 0.02 * several.sum()
    assert agree.mean() > 0.995
    assert (state.stable == expected.stable)[agree].mean() > 0.995
    # a state that is not stable is marked, and returned only where no other one is known
    for i in np.flatnonzero(~expected.stable)[:3]:
        params = unclustered(**{name: array[i] for name, array in values.items()})
        points = fixed_points(params, "white")
        np.testing.assert_allclose(expected.rates[i], points[0].rates, rtol=1e-6)
        assert not any(point.stable for point in points)


@pytest.mark.parametrize(
    ("theory", "dtype"), [("white", "float32"), ("quenched", "float64")], indirect=["dtype"]
)
def test_the_silent_state_is_the_lowest_one(dtype, theory):
    """Below I_th = 1 the neurons of a network without external noise fire only together."""
    params = unclustered(I_th_E=0.9, I_th_I=0.5)
    state = mean_field(params, theory)
    np.testing.assert_array_equal(state.rates, [0.0, 0.0])
    assert bool(state.stable)
    assert np.isfinite(state.sigma).all()
    points = fixed_points(params, theory)
    np.testing.assert_array_equal(points[0].rates, [0.0, 0.0])
    assert points[0].stable
    assert bool(state.several_states) == (len(points) > 1)
    slope = jax.grad(lambda gei: firing_rates(params.replace(gei=gei), theory)[0])(1.2)
    assert slope == 0
