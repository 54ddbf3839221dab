"""Robust losses of residuals, as `scipy.optimize.least_squares` has them."""

from typing import Literal

import jax.numpy as jnp
from jax import Array

Robust = Literal["linear", "soft_l1", "huber"]


def robust_residuals(robust: Robust, residuals: Array) -> Array:
    """Return r' with r'^2 = rho(r^2), the loss of a residual r, and the sign of r."""
    if robust == "soft_l1":
        # rho(r^2) = 2 (sqrt(1 + r^2) - 1), written without cancellation
        return residuals * jnp.sqrt(2 / (1 + jnp.sqrt(1 + residuals * residuals)))
    if robust == "huber":
        # rho(r^2) = r^2 up to |r| = 1, then 2 |r| - 1
        size = jnp.abs(residuals)
        outlier = size > 1
        # the inner where keeps the root, and so the derivative, finite for small residuals
        root = jnp.sqrt(2 * jnp.where(outlier, size, 1) - 1)
        return jnp.where(outlier, jnp.sign(residuals) * root, residuals)
    return residuals
