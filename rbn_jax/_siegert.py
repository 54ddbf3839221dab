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

SHIFT = 1.4603545088095868 / math.sqrt(2)
"""|zeta(1/2)| / sqrt(2): limits move by this much, times sqrt(tau_syn / tau_m)."""
_C = 4 * math.exp(0.5772156649015329)
_ROOT_PI = math.sqrt(math.pi)
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
    *(1.17756257419656, 0.005353904539615676, -0.09377550342284209, 0.05436652555744322),
    *(-0.018976596707845208, 0.004453426061462712, -0.0006335531710553147),
    *(1.7661719523171593e-05, 1.2841532864056671e-05, -2.0072285659059913e-06),
    *(-1.807522790414837e-07, 7.549828343825093e-08, 1.885668523838603e-09),
    *(-2.699519049798364e-09, -1.460079119939105e-11, 1.0361607445969489e-10),
    *(1.475715976623473e-12, -4.277340064396911e-12, -2.07922492859799e-13),
    *(1.8134502003176963e-13, 1.973425574544739e-14, -7.287943737592673e-15),
    *(-1.5169878690228116e-15, 2.3514112258781403e-16, 1.0006111691821667e-16),
    *(-2.0572528169538546e-18, -5.608608218863183e-18),
)
DAWSON = (
    *(1.178409897328075, -0.2223039507542565, 0.0034704685932345257, 0.109734904779436),
    *(-0.12885669104904363, 0.09497565003689232, -0.050145242333070224, 0.0182438223186789),
    *(-0.0033893986853841354, -0.0005884808482473304, 0.0005599365034065729),
    *(-7.901043690534086e-05, -5.323832895571035e-05, 2.0009318655858168e-05),
    *(4.685451543483566e-06, -3.4286676192044567e-06, -4.77312523439895e-07),
    *(5.658301499425555e-07, 7.326124179348294e-08, -9.5492437321212e-08),
    *(-1.7101668504980866e-08, 1.617606627502861e-08, 4.682956541110565e-09),
    *(-2.561856019099253e-09, -1.267625293597241e-09, 3.158443238898224e-10),
    *(3.157779141858863e-10, -4.5171541460078514e-12, -6.840753593742743e-11),
    *(-1.4804095741664938e-11, 1.1486814010183288e-11, 6.365438055248919e-12),
    *(-8.515578643881528e-13, -1.7313179345242123e-12, -3.342317658262777e-13),
    *(3.065933471760653e-13, 1.8449189970809715e-13, -1.082131159231299e-14),
    *(-4.9918113068877076e-14, -1.6023355202520205e-14, 6.5347327417626835e-15),
    *(6.751806523169357e-15, 1.0686837269543234e-15, -1.3319668680183023e-15),
    *(-8.622995563536859e-16, -2.358136678843845e-17, 2.241033926413801e-16),
    *(1.1052968087621567e-16, -9.784907686291834e-18),
)
REST = (
    *(1.1001163872690645, 0.19619629383934845, -0.24625762942648943, 0.09228391011079297),
    *(-0.010978856854178052, -0.005588362781993684, 0.003344316908342491, -0.000814482082580521),
    *(6.464483986583504e-05, 1.7621700987046705e-05, -4.676719321639545e-06),
    *(-1.8605387193536677e-07, 1.9712668414641383e-07, -3.2353857603429227e-09),
    *(-8.171864217715094e-09, 2.8526844855016286e-10, 3.6637273659204695e-10),
    *(-8.472079874778455e-12, -1.7676519548419096e-11, -2.767568126173589e-13),
    *(8.740878436578008e-13, 6.853484206656098e-14, -4.111783296031639e-14),
    *(-7.092315324435733e-15, 1.6129134860647906e-15, 5.620250157114825e-16),
    *(-3.086798452287064e-17, -3.650308061441369e-17, -2.7582842508909546e-18),
    *(1.8434958398530155e-18,),
)


_SHORT = {len(LOG_REST): 24, len(ERFCX): 13, len(DAWSON): 21, len(REST): 14}


def log_escape_integral(v: Array, gap: Array, sigma: Array, shift: Array) -> Array:
    """ln of I with y = v/sigma + shift and h = gap/sigma; gap and sigma > 0, one dtype.

    v is V_th - mu and gap is V_th - V_r.
    """
    top = _above(v / sigma + shift)
    return top * top + _log_scaled_integral(v, gap, sigma, shift)


@jax.custom_jvp
def _log_scaled_integral(v: Array, gap: Array, sigma: Array, shift: Array) -> Array:
    return once(jnp.log(_scaled_integral(v / sigma + shift, gap / sigma)))


@_log_scaled_integral.defjvp
def _(primals: Any, tangents: Any) -> Any:
    v, gap, sigma, shift = primals
    dv, dgap, dsigma, dshift = tangents
    y, h, value = v / sigma + shift, gap / sigma, _log_scaled_integral(*primals)
    at_reset, growth, stretch = _boundary_terms(y, h)
    share = jnp.exp(-value)
    slopes = growth * share, at_reset * share, (shift * growth - stretch) * share
    d_y, d_h, d_sigma = once(slopes)
    taken = 2 * _above(y)  # the slope of the factor that is not in this integral
    slope = (d_y - taken) * (dv / sigma + dshift) + d_h * dgap / sigma
    return value, slope + (d_sigma + taken * (v / sigma)) * (dsigma / sigma)


def _above(x: Array) -> Array:
    """max(x, 0), at 0 with the slope of the formula for x <= 0, which is used there."""
    return jnp.where(x > 0, x, 0)


def _size(x: Array) -> Array:
    """|x|, at 0 with the same."""
    return jnp.where(x > 0, x, -x)


def once(x: Any) -> Any:
    """x, computed once: XLA would do it again for every sum and every tangent that uses it."""
    return lax.optimization_barrier(x)


def _scaled_integral(y: Array, h: Array) -> Array:
    """I exp(-max(y, 0)^2)."""
    reset = y - h
    top, low = _above(y), _above(reset)
    far, near = _size(reset), _size(y)
    gap = jnp.where(y <= 0, h, jnp.where(reset >= 0, -h, far - near))
    ratio = jnp.log1p(_C * gap * (far + near) / (1 + _C * near * near)) / (2 * _ROOT_PI)
    steps = 3 * gap / ((far + 1.5) * (near + 1.5))
    rest = steps * _divided_difference(LOG_REST, _mapped(far, 1.5), _mapped(near, 1.5))
    part = jnp.where(reset >= 0, h, top)  # of the way from reset to threshold, above the mean
    return 2 * _gaussian_integral(top, low, part) + jnp.exp(-top * top) * (ratio + rest)


def _gaussian_integral(top: Array, low: Array, gap: Array) -> Array:
    """int exp(u^2 - top^2) du from low = top - gap to top."""
    apart = _dawson(top) - jnp.exp(-gap * (top + low)) * _dawson(low)
    near = top * gap < 1
    s = jnp.where(near, gap, 0)
    steps = (s * (1 + node) / 2 for node in _NODES)
    terms = (w * jnp.exp(-x * (2 * top - x)) for w, x in zip(_WEIGHTS, steps, strict=True))
    return jnp.where(near, s / 2 * sum(terms), apart)


def _boundary_terms(y: Array, h: Array) -> tuple[Array, Array, Array]:
    """Scaled as I: erfcx(-u) at the reset, and how it and u erfcx(-u) grow up to the threshold."""
    reset = y - h
    top, low = _above(y), _above(reset)
    decay = jnp.exp(-(top - low) * (top + low))
    at_top, at_reset = _scaled_erfcx(y), decay * _scaled_erfcx(reset)
    below, growth, stretch = y <= 0, *_growths(_size(y), _size(reset), h)
    return (
        at_reset,
        jnp.where(below, growth, at_top - at_reset),
        jnp.where(below, stretch, y * at_top - reset * at_reset),
    )


def _growths(near: Array, far: Array, h: Array) -> tuple[Array, Array]:
    """erfcx and -x erfcx(x) from far = near + h down to near, as divided differences."""
    steps = -6 * h / ((near + 3) * (far + 3))
    at = _mapped(near, 3), _mapped(far, 3)
    n, f = 1 + 2 * near, 1 + 2 * far
    first = steps * _divided_difference(ERFCX, *at) / n + _series(ERFCX, at[1]) * 2 * h / (n * f)
    second = steps * _divided_difference(REST, *at) / (n * n)
    return first, second + _series(REST, at[1]) * 2 * h * (n + f) / (n * f) ** 2


def _scaled_erfcx(y: Array) -> Array:
    """erfcx(-y) exp(-max(y, 0)^2)."""
    x = _size(y)
    mirrored = _series(ERFCX, _mapped(x, 3)) / (1 + 2 * x)
    return jnp.where(y > 0, 2 - jnp.exp(-x * x) * mirrored, mirrored)


def _dawson(x: Array) -> Array:
    """exp(-x^2) int_0^x exp(u^2) du for x >= 0."""
    return x * _series(DAWSON, _mapped(x * x, 12)) / (1 + 2 * x * x)


def _mapped(x: Array, middle: float) -> Array:
    return (x - middle) / (x + middle)


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
