"""Numerical kernels on arrays; they import only JAX and NumPy."""
