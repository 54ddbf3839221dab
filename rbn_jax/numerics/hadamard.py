"""Hadamard matrices as Kronecker products of two smaller ones, for fast transforms.

A Hadamard matrix H has entries of +1 and -1 and orthogonal rows: H H^T = n I for the order n. Those
made here have the orders 2^k, 12 2^k, 20 2^k, 44 2^k and 60 2^k, so that one of them is at most a
quarter larger than any number above 32.
"""

import numpy as np

# orders p + 1 of Paley's construction for primes p = 3 mod 4, beside those that are powers of 2
_PALEY_ORDERS = (60, 44, 20, 12)


def smallest_order(size: int) -> int:
    """Return the smallest order of a matrix that has at least `size` rows.

    >>> smallest_order(5000), smallest_order(250)
    (5120, 256)
    """
    orders = []
    for base in (*_PALEY_ORDERS, 1):
        order = base
        while order < size:
            order *= 2
        orders.append(order)
    return min(orders)


def factors(order: int) -> tuple[np.ndarray, np.ndarray]:
    """Return two Hadamard matrices of similar sizes, whose Kronecker product has this order.

    >>> [len(matrix) for matrix in factors(5120)]
    [80, 64]

    Raises:
        ValueError: no such matrix is made here.
    """
    base = next((base for base in _PALEY_ORDERS if order % base == 0), 1)
    exponent = (order // base).bit_length() - 1
    if order != base << exponent:
        raise ValueError(f"order={order}: must be 1, 12, 20, 44 or 60 times a power of 2")
    sizes = [(base << k, 1 << (exponent - k)) for k in range(exponent + 1)]
    first, second = min(sizes, key=sum)
    return _matrix(base, first), _matrix(1, second)


def _matrix(base: int, order: int) -> np.ndarray:
    """Return a matrix of the order base 2^k: Sylvester's doubling of that of the order base."""
    matrix = np.ones((1, 1), np.int8) if base == 1 else _paley(base - 1)
    while len(matrix) < order:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return matrix


def _paley(prime: int) -> np.ndarray:
    """Return the matrix of the order prime + 1 from the squares modulo a prime = 3 mod 4."""
    squares = np.arange(1, prime) ** 2 % prime
    difference = (np.arange(prime)[:, None] - np.arange(prime)) % prime
    is_square = np.isin(difference, squares)
    matrix = np.ones((prime + 1, prime + 1), np.int8)
    matrix[1:, 0] = -1
    # 0 counts as a square: the diagonal is +1, as that of the identity plus a skew matrix
    matrix[1:, 1:] = np.where(is_square | (difference == 0), 1, -1)
    return matrix
