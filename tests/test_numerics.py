"""Values and derivatives against mpmath, from 1e-3 to 1e6 ms and at equal time constants."""

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
import reference

import rbn_jax as rbn
from rbn_jax.numerics import coefficients, exponential
from rbn_jax.numerics.minimise import Box, Evaluation, minimise, no_minima

RELATIVE_GAPS = (1.0, 0.3, 0.1, 1e-2, 1e-4, 1e-8, 1e-15, 0.0)
# ratios at which the kernels change from one formula to another
SWITCH_RATIOS = (1.4985, 1.5015, 2.3333, 2.334, 7.4)


def time_constant_pairs(dtype):
    """Pairs at every relative gap in both orders, ratios up to 1e9, and random ones between."""
    rng = np.random.default_rng(0)
    bases = [1e-3, 0.5, 10.0, 1e6 / 2, *(10 ** rng.uniform(-3, 5.5, 6))]
    nearly_equal = [(a, a * (1 + gap)) for a in bases for gap in RELATIVE_GAPS]
    at_switches = [(a, a * ratio) for a in (1.0, 37.0) for ratio in SWITCH_RATIOS]
    distant = [(1e-3, 1e6), (1e-3, 7.0), (3.0, 1e6), *(10 ** rng.uniform(-3, 6, (20, 2)))]
    pairs = np.array([*nearly_equal, *at_switches, *distant])
    return np.concatenate([pairs, pairs[:, ::-1]]).astype(dtype)


def largest_error(values, expected, dtype):
    """Largest relative error in units of the dtype's eps."""
    eps = float(np.finfo(dtype).eps)
    errors = []
    for value, exact in zip(np.ravel(values), expected, strict=True):
        errors.append(float(abs((mp.mpf(float(value)) - exact) / exact)) / eps)
    return max(errors)


def exact(function, pairs):
    with mp.workdps(reference.DIGITS):
        return [function(mp.mpf(float(a)), mp.mpf(float(b))) for a, b in pairs]


FUNCTIONS = {
    "peak": (rbn.postsynaptic_current_to_potential, reference.peak),
    "time": (rbn.psp_time_to_peak, reference.time_to_peak),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_value_is_within_4_eps(name, dtype):
    function, exact_function = FUNCTIONS[name]
    pairs = time_constant_pairs(dtype)
    values = function(pairs[:, 0], pairs[:, 1])
    assert values.dtype == dtype
    assert largest_error(values, exact(exact_function, pairs), dtype) < 4


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("mode", [jax.jacfwd, jax.jacrev])
def test_gradient_is_within_10_eps(name, mode, dtype):
    function, exact_function = FUNCTIONS[name]
    pairs = time_constant_pairs(dtype)
    slopes = jax.vmap(mode(function, (0, 1)))(pairs[:, 0], pairs[:, 1])
    expected = exact(lambda a, b: reference.gradient(exact_function, a, b), pairs)
    for i in (0, 1):
        assert largest_error(slopes[i], [gradient[i] for gradient in expected], dtype) < 10


@pytest.mark.parametrize("name", FUNCTIONS)
def test_each_entry_of_the_hessian_is_within_64_eps(name, dtype):
    function, exact_function = FUNCTIONS[name]
    pairs = time_constant_pairs(dtype)
    hessians = jax.vmap(jax.hessian(function, (0, 1)))(pairs[:, 0], pairs[:, 1])
    expected = exact(lambda a, b: reference.hessian(exact_function, a, b), pairs)
    for i, j in np.ndindex(2, 2):
        entries = [hessian[i][j] for hessian in expected]
        assert largest_error(hessians[i][j], entries, dtype) < 64


def test_peak_with_capacitance_and_resting_potential_is_within_6_eps(dtype):
    pairs = time_constant_pairs(dtype)[::3]
    for c_m, e_l in ((250.0, -70.0), (1.0, 30.0)):
        values = rbn.postsynaptic_current_to_potential(pairs[:, 0], pairs[:, 1], c_m, e_l)
        for (a, b), value in zip(pairs, values, strict=True):
            with mp.workdps(reference.DIGITS):
                a, b = mp.mpf(float(a)), mp.mpf(float(b))
                expected = reference.peak_with_rest(a, b, mp.mpf(c_m), mp.mpf(e_l))
                scale = reference.peak(a, b) / c_m + abs(expected)  # the two terms may cancel
            assert abs(float(value) - expected) < 6 * np.finfo(dtype).eps * scale


@pytest.mark.parametrize("order", [0, 1])
def test_waveform_is_within_10_eps_of_its_scale(order, dtype):
    """The scale of the value is the peak; of a slope in t, 1; in a time constant, peak/tau."""
    rng = np.random.default_rng(1)
    pairs = time_constant_pairs(dtype)[::2]
    smaller = pairs.min(axis=1)
    times = smaller * 10 ** rng.uniform(-3, 3, (4, len(pairs)))
    t = np.concatenate([0 * smaller, *times]).astype(dtype)
    a, b = np.tile(pairs[:, 0], 5), np.tile(pairs[:, 1], 5)
    function = rbn.psp_waveform
    if order == 1:
        function = jax.vmap(jax.jacfwd(rbn.psp_waveform, (0, 1, 2)))
    results = np.atleast_2d(np.asarray(function(t, a, b), float))
    largest = 0.0
    with mp.workdps(reference.DIGITS):
        for k in range(t.size):
            point = [mp.mpf(float(number)) for number in (t[k], a[k], b[k])]
            peak = reference.peak(*point[1:])
            scales = [peak] if order == 0 else [1, peak / point[1], peak / point[2]]
            if order == 0:
                expected = [reference.waveform(*point)]
            elif t[k] == 0:
                expected = [1, 0, 0]
            else:
                expected = reference.gradient(reference.waveform, *point)
            for result, value, scale in zip(results[:, k], expected, scales, strict=True):
                error = float(abs(mp.mpf(result) - value) / scale)
                largest = max(largest, error / np.finfo(dtype).eps)
    assert largest < 10


def test_waveform_before_the_event_is_0_with_all_its_derivatives(dtype):
    point = tuple(map(dtype.type, (-1.0, 10.0, 10.0)))
    assert rbn.psp_waveform(*point) == 0
    assert np.all(np.asarray(jax.grad(rbn.psp_waveform, (0, 1, 2))(*point)) == 0)
    assert np.all(np.asarray(jax.hessian(rbn.psp_waveform, (0, 1, 2))(*point)) == 0)


def test_third_derivative_agrees_with_mpmath(x64):
    """No accuracy is promised, but a wrong rule would be wrong by far more than rounding."""
    third = jax.jacfwd(jax.hessian(rbn.postsynaptic_current_to_potential))
    for a, b in ((10.0, 10.0), (10.0, 11.0), (10.0, 24.0), (10.0, 0.5)):
        with mp.workdps(reference.DIGITS):
            step = mp.mpf(10) ** -30
            expected = mp.diff(lambda m, b=b: reference.peak(m, mp.mpf(b)), mp.mpf(a), 3, h=step)
        assert float(third(a, b)) == pytest.approx(float(expected), rel=1e-9)


@pytest.mark.parametrize("invalid", [0.0, -1.0, -np.inf, np.inf, np.nan])
def test_value_and_gradient_outside_the_domain_are_nan(invalid, dtype):
    invalid, valid = dtype.type(invalid), dtype.type(10.0)
    peak, current = rbn.postsynaptic_current_to_potential, rbn.postsynaptic_potential_to_current
    for function, arguments in (
        (peak, (invalid, valid, valid, valid)),
        (peak, (valid, invalid, valid, valid)),
        (peak, (valid, valid, invalid, valid)),
        (peak, (invalid, invalid, valid, valid)),
        (current, (valid, invalid, valid, valid)),
        (current, (valid, valid, invalid, valid)),
        (current, (valid, valid, valid, invalid)),
        (rbn.psp_time_to_peak, (invalid, valid)),
        (rbn.psp_time_to_peak, (valid, invalid)),
        (rbn.psp_waveform, (valid, invalid, valid, valid)),
        (rbn.psp_waveform, (valid, valid, invalid, valid)),
        (rbn.psp_waveform, (valid, valid, valid, invalid)),
        (rbn.rheobase_current, (invalid, valid, valid, valid)),
        (rbn.rheobase_current, (valid, valid, valid, invalid)),
    ):
        assert jnp.isnan(function(*arguments)), (function, arguments)
        positions = [i for i, argument in enumerate(arguments) if argument is invalid]
        slopes = jnp.array(jax.grad(function, positions)(*arguments))
        assert jnp.all(jnp.isnan(slopes)), (function, arguments)


@pytest.mark.parametrize("invalid", [0.0, -1.0, np.nan])
def test_second_derivatives_outside_the_domain_are_nan(invalid, dtype):
    invalid, valid = dtype.type(invalid), dtype.type(10.0)
    for function in (rbn.postsynaptic_current_to_potential, rbn.psp_time_to_peak):
        for arguments in ((invalid, valid), (valid, invalid)):
            hessian = jnp.array(jax.hessian(function, (0, 1))(*arguments))
            assert jnp.all(jnp.isnan(hessian)), (function, arguments)


POLYNOMIALS = {
    "LOG_RATIO": (
        lambda w: mp.nsum(lambda k: (w / 4) ** k / (2 * k + 1), [0, mp.inf]),
        0,
        0.402**2,
    ),
    "EXP": (lambda x: mp.exp(x - mp.mpf(1) / 2), -0.5, 0.5),
    "ATANH_REMAINDER": (lambda w: mp.nsum(lambda k: w**k / (2 * k + 3), [0, mp.inf]), 0, 0.25),
}


@pytest.mark.parametrize("name", POLYNOMIALS)
def test_polynomial_agrees_with_its_function(name, dtype):
    """Within half of the last place of 1, also between the nodes of the interpolation."""
    function, low, high = POLYNOMIALS[name]
    series = getattr(coefficients, name)
    with mp.workdps(40):
        numbers = [mp.mpf(number) for number in getattr(series, dtype.name)]
        for x in mp.linspace(low, high, 40):
            value = sum(number * x**k for k, number in enumerate(numbers))
            assert abs(value - function(x)) < np.finfo(dtype).eps / 2


@pytest.mark.parametrize("pair", [(2.4e38, 0.9e38), (3.2e38, 1.0), (1.2e-38, 2.2e-38)])
def test_pair_whose_sum_or_difference_float32_cannot_hold_gives_nan(pair):
    a, b = map(np.float32, pair)
    for name, (function, _) in FUNCTIONS.items():
        assert jnp.isnan(function(a, b)), name


@pytest.mark.parametrize("pair", [(3e37, 1e37), (3e37, 1.0), (3e-31, 4e-31), (3e-31, 1e37)])
def test_value_is_within_4_eps_up_to_the_limits_of_float32(pair):
    pairs = np.array([pair, pair[::-1]], np.float32)
    for function, exact_function in FUNCTIONS.values():
        with jax.enable_x64(False):
            values = function(pairs[:, 0], pairs[:, 1])
        assert largest_error(values, exact(exact_function, pairs), np.float32) < 4


@pytest.mark.parametrize("size", [1e-30, 1e-20, 1e20, 1e37])
def test_waveform_is_right_at_any_size_of_the_time_constants(size):
    tau = np.float32(size)
    with jax.enable_x64(False):
        value = rbn.psp_waveform(tau, tau, tau)
    assert float(value) / size == pytest.approx(np.exp(-1), rel=1e-6)


def extreme_pairs(dtype):
    """Pairs over the whole range of the dtype, in both orders, at every ratio and nearly equal."""
    low, high = (-30.6, 37.2) if dtype == np.float32 else (-291.6, 306.8)
    rng = np.random.default_rng(4)
    exponents = np.concatenate([rng.uniform(low, high, 12), np.linspace(low, high, 5)])
    pairs = [(a, b) for a, b in rng.uniform(low, high, (12, 2))]
    pairs += [(low, high), (low, (low + high) / 2), ((low + high) / 2, high)]
    for a in exponents:
        gaps = (0.0, 1e-7, 1e-3, 0.5, 10.0)
        pairs += [(a, min(a + gap, high)) for gap in gaps]
    both = np.array(pairs)
    return (10 ** np.concatenate([both, both[:, ::-1]])).astype(dtype)


def exact_derivatives(function, point, dtype):
    """Value, gradient and Hessian by central differences with steps relative to each number.

    The digits suffice for a ratio of the numbers of 1e68 or 1e600, whose square is the share of
    the smallest derivative in the value.
    """
    digits = 400 if dtype == np.float32 else 2600
    n = len(point)
    with mp.workdps(digits):
        point = [mp.mpf(float(number)) for number in point]
        steps = [number * mp.mpf(10) ** (-digits // 5) for number in point]

        def at(*signs):
            moved = zip(point, signs, steps, strict=True)
            return function(*(number + sign * step for number, sign, step in moved))

        units = np.eye(n, dtype=int).tolist()
        value = at(*[0] * n)
        ends = [(at(*unit), at(*(-sign for sign in unit))) for unit in units]
        gradient = []
        hessian = np.empty((n, n), object)
        for i in range(n):
            gradient.append((ends[i][0] - ends[i][1]) / (2 * steps[i]))
            hessian[i, i] = (ends[i][0] - 2 * value + ends[i][1]) / steps[i] ** 2
            for j in range(i):
                total = 0
                for sign_i, sign_j in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
                    signs = np.array(units[i]) * sign_i + np.array(units[j]) * sign_j
                    total += sign_i * sign_j * at(*signs.tolist())
                hessian[i, j] = hessian[j, i] = total / (4 * steps[i] * steps[j])
        return value, gradient, hessian


def error_in_eps(value, exact, dtype, scale=None):
    """Error relative to the scale in eps; results near the smallest normal number are absolute."""
    info = np.finfo(dtype)
    scale = max(abs(exact if scale is None else scale), 8 * mp.mpf(float(info.tiny / info.eps)))
    assert np.isfinite(value)
    return float(abs(mp.mpf(float(value)) - exact) / scale) / float(info.eps)


def decay_to_peak(a, b):
    """The term in e_l of the peak: at a large C_m it is all that is left."""
    return exponential.decay_to_peak(jnp.ones_like(a), a, b)


EXTREME = {
    "peak": (rbn.postsynaptic_current_to_potential, reference.peak),
    "time": (rbn.psp_time_to_peak, reference.time_to_peak),
    "current": (
        lambda a, b: rbn.postsynaptic_potential_to_current(jnp.ones_like(a), a, b),
        lambda a, b: 1 / reference.peak(a, b),
    ),
    "decay": (decay_to_peak, lambda a, b: mp.exp(-reference.time_to_peak(a, b) / a)),
}


@pytest.mark.parametrize("name", EXTREME)
def test_value_and_derivatives_are_exact_over_the_whole_range_of_the_dtype(name, dtype):
    """Within 16 eps; not where a derivative of the same order is above 1/tiny."""
    function, exact_function = EXTREME[name]
    pairs = extreme_pairs(dtype)[:: 1 if dtype == np.float32 else 3]
    columns = (pairs[:, 0], pairs[:, 1])
    values = function(*columns)
    slopes = jax.jit(jax.vmap(jax.jacrev(function, (0, 1))))(*columns)
    hessians = jax.jit(jax.vmap(jax.hessian(function, (0, 1))))(*columns)
    # above it divisors are subnormal, which XLA takes for 0
    largest = 1 / mp.mpf(float(np.finfo(dtype).tiny))
    n_hessians = 0
    for k, pair in enumerate(pairs):
        exact_value, gradient, hessian = exact_derivatives(exact_function, pair, dtype)
        assert error_in_eps(values[k], exact_value, dtype) < 16, pair
        for i in (0, 1):
            if max(map(abs, gradient)) < largest:
                assert error_in_eps(slopes[i][k], gradient[i], dtype) < 16, pair
        if max(map(abs, hessian.flat)) < largest:
            n_hessians += 1
            # the mixed derivative of the decay changes its sign
            scale = max(abs(hessian[0, 0]), abs(hessian[0, 1])) if name == "decay" else None
            for i, j in np.ndindex(2, 2):
                used = scale if i != j else None
                assert error_in_eps(hessians[i][j][k], hessian[i, j], dtype, used) < 16, pair
    assert n_hessians > len(pairs) // 4


def test_waveform_and_its_derivatives_are_exact_over_the_whole_range_of_the_dtype(dtype):
    """Within 16 eps (1 + t/tau) of the size that a derivative has around its changes of sign.

    That is its own size, or its slope in a number times that number.
    """
    rng = np.random.default_rng(5)
    pairs = extreme_pairs(dtype)[:: 2 if dtype == np.float32 else 9]
    smaller, larger = np.log10(pairs.astype(float).min(1)), np.log10(pairs.astype(float).max(1))
    bases = np.where(rng.random(len(pairs)) < 0.5, smaller, larger)
    exponents = bases + rng.uniform(-2, 1.5, len(pairs))
    t = (10 ** np.minimum(exponents, larger + 1.5)).astype(dtype)
    t = np.minimum(t, np.finfo(dtype).max / 8)
    columns = (t, pairs[:, 0], pairs[:, 1])
    values = rbn.psp_waveform(*columns)
    slopes = jax.jit(jax.vmap(jax.jacfwd(rbn.psp_waveform, (0, 1, 2))))(*columns)
    hessians = jax.jit(jax.vmap(jax.hessian(rbn.psp_waveform, (0, 1, 2))))(*columns)
    for k, point in enumerate(zip(*columns, strict=True)):
        value, gradient, hessian = exact_derivatives(reference.waveform, point, dtype)
        sizes = [mp.mpf(float(number)) for number in point]
        allowed = 16 * (1 + float(t[k]) / float(pairs[k].max()))
        assert error_in_eps(values[k], value, dtype) < allowed, point
        for i in range(3):
            changes = [abs(hessian[i, j]) * sizes[j] for j in range(3)]
            scale = max(abs(gradient[i]), *changes)
            assert error_in_eps(slopes[i][k], gradient[i], dtype, scale) < allowed, point
        later = (float(t[k]) * (1 + 1e-6), *point[1:])
        hessian_later = exact_derivatives(reference.waveform, later, dtype)[2]
        for i, j in np.ndindex(3, 3):
            change = abs(hessian_later[i, j] - hessian[i, j]) * 10**6
            scale = max(abs(hessian[i, j]), change)
            assert error_in_eps(hessians[i][j][k], hessian[i, j], dtype, scale) < allowed, point


@pytest.mark.parametrize("ratio", [1e1, 1e4, 1e9, 1e18, 1e30])
def test_slope_of_the_waveform_in_the_larger_time_constant_keeps_its_digits(ratio, dtype):
    larger = dtype.type(2000.0)
    smaller = dtype.type(2000.0 / ratio)
    for t in (dtype.type(3.0), dtype.type(100.0), dtype.type(7000.0)):
        exact = exact_derivatives(reference.waveform, (t, larger, smaller), dtype)[1][1]
        for order in (1, -1):
            pair = (larger, smaller)[::order]
            slope = jax.grad(rbn.psp_waveform, 1 if order == 1 else 2)(t, *pair)
            assert error_in_eps(slope, exact, dtype) < 16


def test_waveform_long_after_the_event_is_0_with_all_its_derivatives(dtype):
    info = np.finfo(dtype)
    largest_constant = info.max / 10
    for t in (np.inf, info.max, 1e6):
        for pair in ((10.0, 10.0), (10.0, 2.0), (1e-30, 1e-30), (2.0, 10.0), (1e-30, 10.0)):
            point = tuple(map(dtype.type, (t, *pair)))
            assert rbn.psp_waveform(*point) == 0
            for derivative in (jax.grad, jax.hessian):
                slopes = jax.tree.leaves(derivative(rbn.psp_waveform, (0, 1, 2))(*point))
                np.testing.assert_array_equal(slopes, 0)
    constant = dtype.type(largest_constant)
    assert rbn.psp_waveform(dtype.type(np.inf), constant, constant) == 0
    assert np.isnan(rbn.psp_waveform(dtype.type(np.nan), constant, constant))


def decay_residuals(x):
    """Residuals of x[0] exp(-t / x[1]) to data without noise: they are 0 at x = (3, 2)."""
    t = jnp.arange(1.0, 6.0)
    return x[0] * jnp.exp(-t / x[1]) - 3 * jnp.exp(-t / 2)


def minimise_decay(starts, low, high, by_reach=False, batch_size=2, problems=None, max_steps=100):
    """Fit the decay from some starts (problems, 2) within bounds."""
    starts = jnp.asarray(starts, float)

    def evaluate(number, z):
        residuals = decay_residuals(z)
        jacobian = jax.jacfwd(decay_residuals)(z)
        gradient = residuals @ jacobian
        return Evaluation(0.5 * (residuals @ residuals), gradient, jacobian.T @ jacobian)

    box = Box(*map(jnp.asarray, (low, high, np.ones(2), np.ones(2))))
    return minimise(
        evaluate,
        lambda number: starts[number],
        box,
        lambda number, cost: (1e-16 * cost + 1e-28, 1e-7 * cost + 1e-20),
        by_reach,
        max_steps,
        (0, len(starts)) if problems is None else problems,
        no_minima(2, len(starts), starts.dtype.name),
        batch_size,
    )


LOW, HIGH = np.full(2, 0.1), np.full(2, 10.0)


@pytest.mark.parametrize("by_reach", [False, True])
def test_minima_of_more_problems_than_fit_into_a_batch_are_found(x64, by_reach):
    starts = np.random.default_rng(0).uniform(0.5, 6, (7, 2))
    ends = minimise_decay(starts, LOW, HIGH, by_reach)
    np.testing.assert_allclose(ends.z, np.tile([[3.0], [2.0]], 7), rtol=1e-6)
    costs = [0.5 * np.sum(np.square(decay_residuals(start))) for start in starts]
    at_starts = minimise_decay(starts, LOW, HIGH, by_reach, max_steps=1)
    np.testing.assert_allclose(at_starts.cost, costs)
    assert ends.converged.all()
    assert not ends.held.any()


def test_some_of_the_problems_are_solved_and_the_others_left(x64):
    ends = minimise_decay(np.ones((5, 2)), LOW, HIGH, problems=(1, 3))
    assert np.isfinite(ends.cost).tolist() == [False, True, True, False, False]


def test_minimum_stays_within_bounds_and_keeps_fixed_variables(x64):
    ends = minimise_decay([[1.0, 1.0]], np.array([1.0, 0.1]), np.array([1.0, 10.0]))
    assert ends.z[0, 0] == 1.0
    assert ends.held[:, 0].tolist() == [True, False]
    slopes = jax.jacfwd(decay_residuals)(ends.z[:, 0])
    assert abs(decay_residuals(ends.z[:, 0]) @ slopes[:, 1]) < 1e-6
    ends = minimise_decay([[1.0, 1.0]], LOW, np.array([2.5, 10.0]))
    assert ends.z[0, 0] == 2.5
    assert ends.held[:, 0].tolist() == [True, False]


def test_problem_whose_first_cost_is_nan_is_lost_and_others_are_solved(x64):
    ends = minimise_decay([[1.0, 1.0], [np.nan, 1.0], [2.0, 2.0]], LOW, HIGH)
    assert ends.cost[1] == np.inf
    np.testing.assert_allclose(ends.z[:, ::2], np.tile([[3.0], [2.0]], 2), rtol=1e-6)
