"""The mean time to threshold of a noisy integrator, in logarithms, with its derivatives.

With y = (V_th - mu)/sigma and h = (V_th - V_r)/sigma, Siegert's integral is

    I = int_{y-h}^{y} erfcx(-u) du
      = 2 int_{max(y-h, 0)}^{max(y, 0)} exp(u^2) du + G(|y-h|) - G(|y|),
    G(x) = int_0^x erfcx = log(1 + 4 e^gamma x^2) / (2 sqrt(pi)) + a smooth rest,

and exp(max(y, 0)^2) is taken out of all terms, so that nothing overflows. A difference of G is the
logarithm of a ratio and a divided difference of the rest: it keeps its digits where y and h are
far apart. The smooth parts are Chebyshev series, each in a variable that maps 0..infinity to
-1..1; float32 uses the first terms of the same series.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.custom_derivatives import SymbolicZero

SHIFT = 1.4603545088095868 / math.sqrt(2)
"""|zeta(1/2)| / sqrt(2): limits move by this much, times sqrt(tau_syn / tau_m)."""
_C = 4 * math.exp(0.5772156649015329)
_ROOT_PI = math.sqrt(math.pi)
_MIDDLE = 1.5  # of the variable of all series but that of Dawson's integral
_NODES, _WEIGHTS = (tuple(map(float, x)) for x in np.polynomial.legendre.leggauss(8))

LOG_REST = (
    *(0.03663091038295057, -0.03918021558478393, -0.015608806405013963, 0.03302326612881005),
    *(-0.021122983850421412, 0.007434824782110747, -0.0007246697397315302, -0.00099329201579398),
    *(0.0008129631457738558, -0.0003404168083847158, 5.459656803729184e-05),
    *(3.9288620305013884e-05, -4.024360063826131e-05, 1.9259474957482777e-05),
    *(-4.142691438302032e-06, -1.6670907696338625e-06, 2.2046192884484283e-06),
    *(-1.1830108065022606e-06, 3.1298648901347663e-07, 6.635915072925513e-08),
    *(-1.2652134635164738e-07, 7.574557596241326e-08, -2.3527658698764145e-08),
    *(-1.934568963651259e-09, 7.407157026105249e-09, -4.95933779292826e-09),
    *(1.759463943985802e-09, -2.4960835790841044e-11, -4.349567476205251e-10),
    *(3.285124354125695e-10, -1.3087246553379237e-10, 1.183941268730935e-11),
    *(2.5254412329891148e-11, -2.1867121149027043e-11, 9.680080265863075e-12),
    *(-1.489609923924225e-12, -1.4265687062688512e-12, 1.455513410203801e-12),
    *(-7.117785568911961e-13, 1.4863641182627102e-13, 7.652037662821651e-14),
    *(-9.64896022307547e-14, 5.201034745491815e-14, -1.3426084305093764e-14),
    *(-3.715665499510325e-15, 6.346652485663274e-15, -3.775040900039585e-15),
    *(1.1470572221975338e-15, 1.4266839238772922e-16, -4.125210944248949e-16),
    *(2.7202210359415776e-16,),
)
ERFCX = (
    *(0.3331505843217149, -0.15901054893633448, 0.011219979077796474, 0.003174350904404739),
    *(-0.0003429754046042885, -0.00013923161350247703, 3.220856270651412e-06),
    *(7.307873757028738e-06, 8.914103066662292e-07, -2.780282916085169e-07),
    *(-1.0955294950144872e-07, -4.765934231228781e-09, 6.574199691675423e-09),
    *(1.975567615631664e-09, 1.706638960496091e-11, -1.5194928373083494e-10),
    *(-4.557551034945441e-11, -9.508274831271518e-13, 3.677239414646263e-12),
    *(1.2859502253727975e-12, 9.523469522696888e-14, -8.812952570798378e-14),
    *(-4.063974050913837e-14, -6.200353547888367e-15, 1.759698135352593e-15),
    *(1.3099291069946982e-15, 3.2921144683238895e-16, -7.639070125130881e-18),
    *(-3.864734420527372e-17, -1.5161018985946017e-17),
)
DAWSON = (
    *(0.12791583849331106, -0.1756074839134523, 0.10659294449877361, -0.05581452859751343),
    *(0.024285152867945668, -0.008184211641415725, 0.0017653637470356762, -1.399148979837258e-05),
    *(-0.00014852813280626643, 4.2148414561200876e-05, 5.728896956061879e-06),
    *(-5.912407647720361e-06, 2.536903733005701e-07, 7.314869270051781e-07),
    *(-1.0393859236763859e-07, -9.810289633782762e-08, 1.9060747953832843e-08),
    *(1.51610509216784e-08, -2.81693257117236e-09, -2.666741697957362e-09, 3.1050693010471126e-10),
    *(5.046250233835663e-10, -9.033918056283267e-13, -9.544751588345549e-11),
    *(-1.4372097065055644e-11, 1.64629187555555e-11, 6.047867065136937e-12),
    *(-2.151506794036991e-12, -1.7634743951441615e-12, 3.66653976175652e-14),
    *(3.964543358307644e-13, 1.0033074276627635e-13, -6.104829356189394e-14),
    *(-4.1665571056781094e-14, 1.076236335399588e-15, 1.026229503841001e-14),
    *(3.274717683366936e-15, -1.3384726363296836e-15, -1.305978177633971e-15),
    *(-1.631498530640384e-16, 2.6731653624968885e-16, 1.5026457789190463e-16),
    *(-6.865051391276568e-18, -4.241153339310136e-17, -1.6759168886181544e-17),
)
REST = (
    *(0.08406318511027135, -0.05707617544663771, 0.0022026626215601373, 0.002349209949203186),
    *(-6.148831063121578e-05, -0.00013150345087070662, -1.041220952397992e-05),
    *(6.862001416044498e-06, 1.841851568883218e-06, -1.3403172007251823e-07),
    *(-1.6501934168950353e-07, -2.7884508677771147e-08, 6.29994078057531e-09),
    *(3.993023320124779e-09, 5.79657272205021e-10, -1.8244296948733717e-10),
    *(-1.0881634458791999e-10, -1.7778728113861775e-11, 4.507400656315908e-12),
    *(3.279340147278867e-12, 7.055840690783892e-13, -7.849755009071883e-14),
    *(-1.0240495238990408e-13, -3.064608988620233e-14, -9.00833824202741e-16),
    *(2.9931929601930854e-15, 1.3114521416489862e-15, 2.0310200630566466e-16),
    *(-6.48379512992104e-17, -5.1206123758531136e-17, -1.4556571100316633e-17),
)


_SHORT = {len(LOG_REST): 24, len(ERFCX): 13, len(DAWSON): 21, len(REST): 14}


def log_escape_integral(v: Array, gap: Array, sigma: Array, shift: Array) -> tuple[Array, Array]:
    """ln of I with y = v/sigma + shift and h = gap/sigma, as two terms: max(y, 0)^2 and the rest.

    v is V_th - mu, gap is V_th - V_r; gap and sigma > 0, one dtype.
    """
    mean, top = v / sigma, _above(v / sigma + shift)
    # what the sum in top rounds away is 2 top times as much in its square
    lost = lax.stop_gradient(shift - (top - mean))
    rest = _log_scaled_integral(v, gap, sigma, shift)
    return top * top, rest + jnp.where(top > 0, 2 * top * lost, 0)


@jax.custom_jvp
def _log_scaled_integral(v: Array, gap: Array, sigma: Array, shift: Array) -> Array:
    return jnp.log(_scaled_integral(v / sigma + shift, gap / sigma))


def _log_scaled_integral_jvp(primals: Any, tangents: Any) -> Any:
    v, gap, sigma, shift = primals
    y, h, value = v / sigma + shift, gap / sigma, _log_scaled_integral(*primals)
    at_reset, growth, stretch = _boundary_terms(y, h)
    share, taken = jnp.exp(-value), 2 * _above(y)  # the slope of the factor that is taken out
    d_v = (growth * share - taken) / sigma
    d_sigma = ((shift * growth - stretch) * share + taken * (v / sigma)) / sigma
    d_gap = at_reset * share / sigma
    slopes = d_v, d_gap, d_sigma, d_v * sigma
    return value, tangent(slopes, tangents)


_log_scaled_integral.defjvp(_log_scaled_integral_jvp, symbolic_zeros=True)


def tangent(slopes: Any, tangents: Any) -> Any:
    """The sum of slopes times tangents, those left out that are known to be 0."""
    pairs = zip(slopes, tangents, strict=True)
    return sum(slope * d for slope, d in pairs if not isinstance(d, SymbolicZero))


def _above(x: Array) -> Array:
    """max(x, 0), at 0 with the slope of the formula for x <= 0, which is used there."""
    return jnp.where(x > 0, x, 0)


def _size(x: Array) -> Array:
    """|x|, at 0 with the same."""
    return jnp.where(x > 0, x, -x)


def _scaled_integral(y: Array, h: Array) -> Array:
    """I exp(-max(y, 0)^2)."""
    reset = y - h
    top, far, near = _above(y), _size(reset), _size(y)
    gap = jnp.where(y <= 0, h, jnp.where(reset >= 0, -h, far - near))
    ratio = jnp.log1p(_C * gap * (far + near) / (1 + _C * near * near)) / (2 * _ROOT_PI)
    r, q = _nearness(near), _nearness(far)
    rest = gap * r * q / (2 * _MIDDLE) * _divided_difference(LOG_REST, 1 - q, 1 - r)
    return 2 * _gaussian_integral(y, h) + jnp.exp(-top * top) * (ratio + rest)


def _gaussian_integral(y: Array, h: Array) -> Array:
    """int exp(u^2 - top^2) du from max(y - h, 0) to top = max(y, 0)."""
    top, part = _above(y), _part_above(y, h)
    apart = _dawson(top) - _decay(y, h) * _dawson(_above(y - h))
    near = top * part < 1
    s = jnp.where(near, part, 0)
    steps = (s * (1 + node) / 2 for node in _NODES)
    terms = (w * jnp.exp(-x * (2 * top - x)) for w, x in zip(_WEIGHTS, steps, strict=True))
    return jnp.where(near, s / 2 * sum(terms), apart)


def _part_above(y: Array, h: Array) -> Array:
    """max(y, 0) - max(y - h, 0), without the difference of two that are alike."""
    return jnp.where(y - h > 0, h, _above(y))  # at 0 as `_above`, in its slope, too


def _decay(y: Array, h: Array) -> Array:
    """exp(max(y - h, 0)^2 - max(y, 0)^2)."""
    return jnp.exp(-_part_above(y, h) * (_above(y) + _above(y - h)))


def _boundary_terms(y: Array, h: Array) -> tuple[Array, Array, Array]:
    """Scaled as I: erfcx(-u) at the reset, and how it and u erfcx(-u) grow up to the threshold."""
    reset = y - h
    at_top, at_reset = _scaled_erfcx(y), _decay(y, h) * _scaled_erfcx(reset)
    below, growth, stretch = y <= 0, *_growths(_size(y), _size(reset), h)
    return (
        at_reset,
        jnp.where(below, growth, at_top - at_reset),
        jnp.where(below, stretch, y * at_top - reset * at_reset),
    )


def _growths(near: Array, far: Array, h: Array) -> tuple[Array, Array]:
    """erfcx and -x erfcx(x) from far = near + h down to near, as divided differences."""
    r, q = _nearness(near), _nearness(far)
    s, t, step = 1 - q, 1 - r, h * r * q / (2 * _MIDDLE)
    first = _series(ERFCX, s) - r * _divided_difference(ERFCX, s, t)
    second = (r + q) * _series(REST, s) - r * r * _divided_difference(REST, s, t)
    return step * first, step * second


def _scaled_erfcx(y: Array) -> Array:
    """erfcx(-y) exp(-max(y, 0)^2)."""
    r, top = _nearness(_size(y)), _above(y)
    mirrored = r * _series(ERFCX, 1 - r)
    return jnp.where(y > 0, 2 - jnp.exp(-top * top) * mirrored, mirrored)


def _dawson(x: Array) -> Array:
    """exp(-x^2) int_0^x exp(u^2) du for x >= 0."""
    r = _nearness(x * x, 12)
    return x * r * _series(DAWSON, 1 - r)


def _nearness(x: Array, middle: float = _MIDDLE) -> Array:
    """r = 2 at 0, 1 at middle, 0 at infinity: 1 - r maps 0..infinity to -1..1."""
    return 2 * middle / (x + middle)


def _terms(series: tuple[float, ...], dtype: Any) -> tuple[float, ...]:
    return series if dtype == np.float64 else series[: _SHORT[len(series)]]


def _series(series: tuple[float, ...], t: Array) -> Array:
    """A Chebyshev series at t, by Clenshaw's recurrence."""
    first, *more = _terms(series, t.dtype)
    here = after = jnp.zeros_like(t)
    for c in reversed(more):
        here, after = c + 2 * t * here - after, here
    return first + t * here - after


def _divided_difference(series: tuple[float, ...], s: Array, t: Array) -> Array:
    """(f(s) - f(t)) / (s - t) of a Chebyshev series f, also at s = t."""
    _, *more = _terms(series, t.dtype)
    here = after = slope = slope_after = jnp.zeros_like(t)
    for c in reversed(more):
        slope, slope_after = 2 * (s * slope + here) - slope_after, slope
        here, after = c + 2 * t * here - after, here
    return here + s * slope - slope_after
