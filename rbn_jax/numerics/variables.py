"""Numbers within bounds, and the variables on a linear or log scale that stand for them.

A number x is varied as z = x or, on a log scale, as z = ln x.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import ArrayLike

from rbn_jax.numerics.minimise import Box

# Starts are not nearer to a bound than this share of the range: on a bound itself fn may have no
# derivative.
START_MARGIN = 1e-6


def static_field() -> Any:
    """Make a field that is part of the compiled program, and not a leaf of the pytree."""
    return dataclasses.field(metadata={"static": True})


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Variables:
    """The free parameters x (k,), and the variables z (k,) that stand for them in a search.

    The numbers are leaves of a pytree, so that a fit with other bounds is not compiled again.

    names: of the parameters
    is_log: whether z = ln x
    low, high: the bounds of x
    box: bounds of z, and the lengths of steps
    """

    names: tuple[str, ...] = static_field()
    is_log: tuple[bool, ...] = static_field()
    low: Any
    high: Any
    box: Box

    def to_values(self, z: Array | np.ndarray) -> Array:
        """Return x at z (..., k); JAX code. At a bound x is exactly that bound."""
        is_log = np.array(self.is_log)
        # the inner where keeps numbers that are no logarithms from overflow
        x = jnp.where(is_log, jnp.exp(jnp.where(is_log, z, 0)), z)
        x = jnp.where(z <= self.box.low, self.low, x)
        return jnp.where(z >= self.box.high, self.high, x)

    def slopes(self, x: Array) -> Array:
        """Return dx/dz at x (k,); JAX code."""
        return jnp.where(np.array(self.is_log), x, 1)

    def from_values(self, x: ArrayLike) -> np.ndarray:
        """Return z at x (..., k)."""
        x = np.asarray(x, float)
        return np.log(x, out=x.copy(), where=np.array(self.is_log))

    def from_shares(self, shares: np.ndarray) -> np.ndarray:
        """Return z at shares (..., k) of the range, from 0 to 1; none is at a bound.

        Without two bounds the same shares are spread around the middle, with long tails.
        """
        low, high, middle, reach = map(np.asarray, self.box)
        # shrunk around the middle, so that 0 and 1 are off the bounds
        shares = 0.5 + (1 - START_MARGIN) * (shares - 0.5)
        root = np.sqrt(shares / (1 - shares))
        with np.errstate(invalid="ignore"):  # of open bounds, which are not selected
            within = low + (high - low) * shares
        has_low, has_high = np.isfinite(low), np.isfinite(high)
        return np.select(
            [has_low & has_high, has_low, has_high],
            [within, low + reach * root, high - reach / root],
            middle + reach * (root - 1 / root) / 2,
        )

    def fix(self, index: int | np.ndarray, x: Any) -> "Variables":
        """Return these variables, with those at an index (or where a mask holds) fixed at x."""
        is_fixed = np.zeros(len(self.names), bool)
        is_fixed[index] = True
        value = np.where(is_fixed, x, 1.0)
        # log(x) does not exist for x <= 0: z is then arbitrary, since `to_values` returns the bound
        z = self.from_values(np.where(np.array(self.is_log) & (value <= 0), 1.0, value))
        box = self.box._replace(
            low=np.where(is_fixed, z, self.box.low), high=np.where(is_fixed, z, self.box.high)
        )
        low, high = np.where(is_fixed, value, self.low), np.where(is_fixed, value, self.high)
        return dataclasses.replace(self, low=low, high=high, box=box)

    @property
    def units(self) -> np.ndarray:
        """The range of each z (k,); without two bounds the length of a first step."""
        spread = np.subtract(self.box.high, self.box.low)
        return np.where(np.isfinite(spread), spread, self.box.reach)
