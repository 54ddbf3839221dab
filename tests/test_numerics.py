"""Values and derivatives against mpmath, from 1e-3 to 1e6 ms and at equal time constants."""

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
import reference

import rbn_jax as rbn
from rbn_jax.numerics import exponential

GAPS = (1.0, 0.3, 0.1, 1e-2, 1e-4, 1e-8, 1e-15, 0.0)


def pairs(dtype):
    """Pairs at every gap to either side, ratios up to 1e9, and random ones between."""
    rng = np.random.default_rng(0)
    base = [1e-3, 0.5, 10.0, 1e6 / 2, *(10 ** rng.uniform(-3, 5.5, 6))]
    near = [(a, a * (1 + gap)) for a in base for gap in GAPS]
    edge = [(a, a * r) for a in (1.0, 37.0) for r in (1.4985, 1.5015, 2.3333, 2.334, 7.4)]
    wide = [(1e-3, 1e6), (1e-3, 7.0), (3.0, 1e6), *(10 ** rng.uniform(-3, 6, (20, 2)))]
    found = np.array([*near, *edge, *wide])
    return np.concatenate([found, found[:, ::-1]]).astype(dtype)


def errors(found, truth, dtype):
    """Relative errors in units of the dtype's eps."""
    eps = float(np.finfo(dtype).eps)
    return [
        float(abs((mp.mpf(float(x)) - y) / y)) / eps
        for x, y in zip(np.ravel(found), truth, strict=True)
    ]


def exact(f, points):
    with mp.workdps(reference.DIGITS):
        return [f(mp.mpf(float(a)), mp.mpf(float(b))) for a, b in points]


FUNCTIONS = {
    "peak": (rbn.postsynaptic_current_to_potential, reference.peak),
    "time": (rbn.psp_time_to_peak, reference.time_to_peak),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_value_within_4_eps(name, dtype):
    function, truth = FUNCTIONS[name]
    points = pairs(dtype)
    found = function(points[:, 0], points[:, 1])
    assert found.dtype == dtype
    assert max(errors(found, exact(truth, points), dtype)) < 4


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("mode", [jax.jacfwd, jax.jacrev])
def test_gradient_within_10_eps(name, mode, dtype):
    function, truth = FUNCTIONS[name]
    points = pairs(dtype)
    found = jax.vmap(mode(function, (0, 1)))(points[:, 0], points[:, 1])
    true = exact(lambda a, b: reference.gradient(truth, a, b), points)
    for i in (0, 1):
        assert max(errors(found[i], [g[i] for g in true], dtype)) < 10


@pytest.mark.parametrize("name", FUNCTIONS)
def test_hessian_within_64_eps_entry_by_entry(name, dtype):
    function, truth = FUNCTIONS[name]
    points = pairs(dtype)
    found = jax.vmap(jax.hessian(function, (0, 1)))(points[:, 0], points[:, 1])
    true = exact(lambda a, b: reference.hessian(truth, a, b), points)
    for i, j in np.ndindex(2, 2):
        assert max(errors(found[i][j], [h[i][j] for h in true], dtype)) < 64


def test_peak_with_capacitance_and_resting_potential(dtype):
    points = pairs(dtype)[::3]
    for c, e_l in ((250.0, -70.0), (1.0, 30.0)):
        found = rbn.postsynaptic_current_to_potential(points[:, 0], points[:, 1], c, e_l)
        for (a, b), value in zip(points, found, strict=True):
            with mp.workdps(reference.DIGITS):
                a, b = mp.mpf(float(a)), mp.mpf(float(b))
                true = reference.peak_with_rest(a, b, mp.mpf(c), mp.mpf(e_l))
                scale = reference.peak(a, b) / c + abs(true)  # the two terms may cancel
            assert abs(float(value) - true) < 6 * np.finfo(dtype).eps * scale


@pytest.mark.parametrize("order", [0, 1])
def test_waveform_within_10_eps_of_its_scale(order, dtype):
    """The value's scale is the peak; that of a slope in t is 1, in a time constant peak/tau."""
    rng = np.random.default_rng(1)
    points = pairs(dtype)[::2]
    smaller = points.min(axis=1)
    t = np.concatenate([0 * smaller, *(smaller * 10 ** rng.uniform(-3, 3, (4, len(points))))])
    t, a, b = t.astype(dtype), np.tile(points[:, 0], 5), np.tile(points[:, 1], 5)
    function = rbn.psp_waveform if order == 0 else jax.vmap(jax.jacfwd(rbn.psp_waveform, (0, 1, 2)))
    found = np.atleast_2d(np.asarray(function(t, a, b), float))
    worst = 0.0
    with mp.workdps(reference.DIGITS):
        for k in range(t.size):
            x = [mp.mpf(float(v)) for v in (t[k], a[k], b[k])]
            top = reference.peak(*x[1:])
            if order == 0:
                true, scale = [reference.waveform(*x)], [top]
            elif t[k] == 0:
                true, scale = [1, 0, 0], [1, top / x[1], top / x[2]]
            else:
                true = reference.gradient(reference.waveform, *x)
                scale = [1, top / x[1], top / x[2]]
            for value, y, s in zip(found[:, k], true, scale, strict=True):
                worst = max(worst, float(abs(mp.mpf(value) - y) / s) / np.finfo(dtype).eps)
    assert worst < 10


def test_waveform_before_the_event_is_0_with_all_its_derivatives(dtype):
    x = tuple(map(dtype.type, (-1.0, 10.0, 10.0)))
    assert rbn.psp_waveform(*x) == 0
    assert np.all(np.asarray(jax.grad(rbn.psp_waveform, (0, 1, 2))(*x)) == 0)
    assert np.all(np.asarray(jax.hessian(rbn.psp_waveform, (0, 1, 2))(*x)) == 0)


def test_third_derivatives_are_right_too(x64):
    """No bound is promised here; a wrong rule would be off by far more than rounding."""
    third = jax.jacfwd(jax.hessian(rbn.postsynaptic_current_to_potential))
    for a, b in ((10.0, 10.0), (10.0, 11.0), (10.0, 24.0), (10.0, 0.5)):
        with mp.workdps(reference.DIGITS):
            step = mp.mpf(10) ** -30
            true = mp.diff(lambda m, b=b: reference.peak(m, mp.mpf(b)), mp.mpf(a), 3, h=step)
        assert float(third(a, b)) == pytest.approx(float(true), rel=1e-9)


@pytest.mark.parametrize("bad", [0.0, -1.0, -np.inf, np.inf, np.nan])
def test_outside_the_domain_everything_is_nan(bad, dtype):
    bad, ok = dtype.type(bad), dtype.type(10.0)
    peak, current = rbn.postsynaptic_current_to_potential, rbn.postsynaptic_potential_to_current
    for function, x in (
        (peak, (bad, ok, ok, ok)),
        (peak, (ok, bad, ok, ok)),
        (peak, (ok, ok, bad, ok)),
        (peak, (bad, bad, ok, ok)),
        (current, (ok, bad, ok, ok)),
        (current, (ok, ok, ok, bad)),
        (rbn.psp_time_to_peak, (bad, ok)),
        (rbn.psp_time_to_peak, (ok, bad)),
        (rbn.psp_waveform, (ok, bad, ok, ok)),
        (rbn.psp_waveform, (ok, ok, bad, ok)),
        (rbn.psp_waveform, (ok, ok, ok, bad)),
        (rbn.rheobase_current, (bad, ok, ok, ok)),
        (rbn.rheobase_current, (ok, ok, ok, bad)),
    ):
        assert jnp.isnan(function(*x)), (function, x)
        where = [i for i, v in enumerate(x) if v is bad]
        assert jnp.all(jnp.isnan(jnp.array(jax.grad(function, where)(*x)))), (function, x)


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan])
def test_outside_the_domain_second_derivatives_are_nan(bad, dtype):
    bad, ok = dtype.type(bad), dtype.type(10.0)
    for function in (rbn.postsynaptic_current_to_potential, rbn.psp_time_to_peak):
        for x in ((bad, ok), (ok, bad)):
            assert jnp.all(jnp.isnan(jnp.array(jax.hessian(function, (0, 1))(*x))))


TABLES = {
    "_LOG": (lambda w: mp.nsum(lambda k: (w / 4) ** k / (2 * k + 1), [0, mp.inf]), 0, 0.402**2),
    "_EXP": (lambda x: mp.exp(x - mp.mpf(1) / 2), -0.5, 0.5),
    "_REST": (lambda w: mp.nsum(lambda k: w**k / (2 * k + 3), [0, mp.inf]), 0, 0.25),
}


@pytest.mark.parametrize("name", TABLES)
def test_the_polynomials_are_those_of_the_functions(name, dtype):
    """As near as half of the last place of 1, also between the points of interpolation."""
    function, low, high = TABLES[name]
    with mp.workdps(40):
        coefficients = [mp.mpf(c) for c in getattr(exponential, name)[dtype.name]]
        for x in mp.linspace(low, high, 40):
            value = sum(c * x**k for k, c in enumerate(coefficients))
            assert abs(value - function(x)) < np.finfo(dtype).eps / 2


@pytest.mark.parametrize("pair", [(2.4e38, 0.9e38), (3.2e38, 1.0), (1.2e-38, 2.2e-38)])
def test_where_float32_cannot_hold_sums_or_differences_nothing_is_said(pair):
    a, b = map(np.float32, pair)
    for function in FUNCTIONS:
        assert jnp.isnan(FUNCTIONS[function][0](a, b)), function


@pytest.mark.parametrize("pair", [(3e37, 1e37), (3e37, 1.0), (3e-31, 4e-31), (3e-31, 1e37)])
def test_as_far_as_it_can_every_digit_is_right(pair):
    points = np.array([pair, pair[::-1]], np.float32)
    for function, truth in FUNCTIONS.values():
        with jax.enable_x64(False):
            found = function(points[:, 0], points[:, 1])
        assert max(errors(found, exact(truth, points), np.float32)) < 4


@pytest.mark.parametrize("size", [1e-30, 1e-20, 1e20, 1e37])
def test_the_waveform_holds_at_any_size(size):
    one = np.float32(size)
    with jax.enable_x64(False):
        assert float(rbn.psp_waveform(one, one, one)) / size == pytest.approx(np.exp(-1), rel=1e-6)
