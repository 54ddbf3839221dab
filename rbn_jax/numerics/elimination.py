"""Gaussian elimination of many small matrices, written out so that XLA vectorises it over them."""

import jax.numpy as jnp
from jax import Array

Rows = list[list[Array]]
"""The rows of matrices, with an array of one entry of all matrices in each place."""


def eliminate(rows: Rows) -> tuple[Rows, Array]:
    """Return the rows in upper triangular form, and the sign of the exchange of rows.

    Columns beyond the square, as right sides, are changed along. What is left below the diagonal
    has no meaning.

    >>> zero, one, two, four = jnp.array([0.0, 1.0, 2.0, 4.0])
    >>> triangle, sign = eliminate([[zero, two], [four, one]])
    >>> print(triangle[0][0], triangle[1][1], sign)
    4.0 2.0 -1.0
    """
    rows = [list(row) for row in rows]
    m = len(rows)
    sign = jnp.ones_like(rows[0][0])
    for k in range(m):
        for i in range(k + 1, m):
            # the row with the largest entry becomes row k
            swap = jnp.abs(rows[i][k]) > jnp.abs(rows[k][k])
            for j in range(k, len(rows[k])):
                upper, lower = rows[k][j], rows[i][j]
                rows[k][j] = jnp.where(swap, lower, upper)
                rows[i][j] = jnp.where(swap, upper, lower)
            sign = jnp.where(swap, -sign, sign)
        # a column of zeros stays one, so that a determinant is 0 and not NaN
        pivot = jnp.where(rows[k][k] == 0, 1, rows[k][k])
        for i in range(k + 1, m):
            factor = rows[i][k] / pivot
            for j in range(k + 1, len(rows[k])):
                rows[i][j] = rows[i][j] - factor * rows[k][j]
    return rows, sign
