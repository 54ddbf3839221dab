"""Stability of many stationary states, from the Jacobians of their relaxations."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from rbn_jax.numerics.elimination import Rows, eliminate

# the largest matrix whose characteristic polynomial has a criterion in closed form here
_LARGEST_CLOSED = 4
# Steps to the roots of a polynomial of degree 4 or less. Near a simple root the number of correct
# digits grows threefold with each step.
_ROOT_STEPS = 40
# Steps of the iteration for larger matrices. Each doubles the number of correct digits once the
# iterate is near; the scaling brings it near from 1e-8..1e8 in fewer than 10.
_SIGN_STEPS = 20


def is_stable(jacobian: Array) -> Array:
    """Return whether all eigenvalues of each matrix (m, m, systems) have negative real parts.

    A stationary state of dx/dt = f(x) with the Jacobian df/dx is stable then. Eigenvalues
    themselves are not computed, as JAX has no fast operation for many small matrices. The result
    (systems,) is False for a matrix that is not finite.

    >>> print(is_stable(jnp.array([[[-1.0, 0.5], [2.0, 2.0]], [[-2.0, -2.0], [-1.0, -1.0]]])))
    [ True  True]
    """
    # in units of the largest entry, so that products neither overflow nor underflow
    largest = jnp.abs(jacobian).max((0, 1))
    scaled = jacobian / largest
    if len(jacobian) <= _LARGEST_CLOSED:
        return _is_hurwitz(_characteristic_polynomial(scaled))
    return _has_sign_minus_one(scaled)


def largest_real_part(matrices: Array) -> Array:
    """Return the largest real part of the eigenvalues of each matrix (m, m, *batch), (*batch).

    For m <= 4 it has derivatives up to the third: those of a simple root of the characteristic
    polynomial. For larger m it has the first ones, as `jax.numpy.linalg.eigvals` has. The result
    is NaN for a matrix that is not finite.

    >>> rotation = jnp.array([[1.0, -2.0], [2.0, 1.0]])
    >>> print(largest_real_part(rotation[..., None]))
    [1.]
    """
    m = len(matrices)
    # in units of the largest entry, so that products neither overflow nor underflow
    largest = lax.stop_gradient(jnp.abs(matrices).max((0, 1)))
    scale = jnp.where(largest > 0, largest, 1)
    # LAPACK may not return from a matrix that is not finite
    is_finite = jnp.isfinite(matrices).all((0, 1))
    scaled = jnp.where(is_finite, matrices / scale, 0)
    if m > _LARGEST_CLOSED:
        eigenvalues = jnp.linalg.eigvals(jnp.moveaxis(scaled, (0, 1), (-2, -1)))
        rightmost = eigenvalues.real.max(-1)
        return jnp.where(is_finite, scale, jnp.nan) * rightmost
    # not by LAPACK: XLA divides operations on single elements among devices
    coefficients = _characteristic_polynomial(scaled)
    roots = _roots(lax.stop_gradient(coefficients))
    index = jnp.argmax(roots.real, 0, keepdims=True)
    rightmost = jnp.take_along_axis(roots, index, 0)[0]
    # Newton steps from a root leave its value as it is, and each doubles the number of
    # derivatives that are those of the root
    for _ in range(2):
        rightmost -= _newton_step(coefficients, rightmost)
    return jnp.where(is_finite, scale, jnp.nan) * rightmost.real


def _roots(coefficients: list[Array]) -> Array:
    """Return the complex roots (m, *batch) of x^m + c_1 x^(m-1) + ... + c_m, by Aberth's method.

    All roots are improved at once, each by a Newton step for the polynomial divided by the factors
    of the other roots, which converges with the third power.
    """
    m = len(coefficients)
    # Starts on a circle around all roots, by Fujiwara's bound. The angle 0.4 keeps them off the
    # real axis: from real starts no step leads to complex roots.
    radius = 0.0
    for k, coefficient in enumerate(coefficients, 1):
        radius = jnp.maximum(radius, 2 * jnp.abs(coefficient) ** (1 / k))
    angles = 2 * np.pi * np.arange(m) / m + 0.4
    starts = []
    for angle in angles.tolist():
        starts.append(lax.complex(radius * math.cos(angle), radius * math.sin(angle)))

    def improve(_: int, roots: Array) -> Array:
        step = _newton_step(coefficients, roots)
        # a root has the distance 0 to itself, which adds 0
        distances = roots[:, None] - roots
        repulsion = _divide(jnp.ones_like(distances), distances).sum(1)
        return roots - _divide(step, 1 - step * repulsion)

    return lax.fori_loop(0, _ROOT_STEPS, improve, jnp.stack(starts))


def _divide(numerator: Array, denominator: Array) -> Array:
    """Return the quotient, and 0 for a denominator of 0: equal roots have no step."""
    is_zero = denominator == 0
    return jnp.where(is_zero, 0, numerator) / jnp.where(is_zero, 1, denominator)


def _newton_step(coefficients: list[Array], x: Array) -> Array:
    """Return what Newton's method subtracts from x, for a root of x^m + c_1 x^(m-1) + ... + c_m.

    It is 0 at a multiple root, which has no derivatives.
    """
    value = jnp.ones_like(x)
    slope = jnp.zeros_like(x)
    for coefficient in coefficients:
        slope = slope * x + value
        value = value * x + coefficient.astype(x.dtype)
    return _divide(value, slope)


def _characteristic_polynomial(matrices: Array) -> list[Array]:
    """Return c_1, ..., c_m of x^m + c_1 x^(m-1) + ... + c_m.

    (-1)^k c_k is the sum of the principal minors of k rows. The recursion of Faddeev and LeVerrier
    takes fewer operations, but in float32 it has no correct digit of c_4 where one eigenvalue is
    1000 times the others.
    """
    m = len(matrices)
    coefficients = []
    for k in range(1, m + 1):
        minors = []
        for chosen in itertools.combinations(range(m), k):
            minors.append(_determinant([[matrices[i, j] for j in chosen] for i in chosen]))
        coefficients.append((-1) ** k * jnp.stack(minors).sum(0))
    return coefficients


def _determinant(rows: Rows) -> Array:
    triangle, determinant = eliminate(rows)
    for k in range(len(rows)):
        determinant = determinant * triangle[k][k]
    return determinant


def _is_hurwitz(coefficients: list[Array]) -> Array:
    """Return whether all roots have negative real parts, by the criterion of Routh and Hurwitz.

    For m = 3 it is c_1 c_2 > c_3, and for m = 4 c_1 c_2 c_3 > c_3^2 + c_1^2 c_4, beside
    c_k > 0 for all k.
    """
    stable = jnp.stack(coefficients).min(0) > 0
    if len(coefficients) == 3:
        c_1, c_2, c_3 = coefficients
        stable &= c_1 * c_2 > c_3
    if len(coefficients) == 4:
        c_1, c_2, c_3, c_4 = coefficients
        stable &= c_3 * (c_1 * c_2 - c_3) > c_1 * c_1 * c_4
    return stable


def _has_sign_minus_one(matrices: Array) -> Array:
    """Return whether the matrix sign is -1, by Newton's iteration S = (S + 1/S) / 2.

    The sign has the eigenvectors of the matrix, and the signs of the real parts of its
    eigenvalues as eigenvalues: its trace counts them.
    """
    m = len(matrices)

    def step(_: int, sign: Array) -> Array:
        inverse = jnp.linalg.inv(sign)
        # scaling by norms: otherwise an eigenvalue of size k needs log2(k) more steps
        norms = jnp.linalg.norm(inverse, axis=(-2, -1)) / jnp.linalg.norm(sign, axis=(-2, -1))
        scale = jnp.sqrt(norms)[:, None, None]
        return (scale * sign + inverse / scale) / 2

    sign = lax.fori_loop(0, _SIGN_STEPS, step, jnp.moveaxis(matrices, -1, 0))
    # the trace is -m, or at least -m + 2 with an eigenvalue of a positive real part
    return jax.vmap(jnp.trace)(sign) < 1 - m
