"""The functions that `rbn-jax sweep` evaluates, by name."""

import functools
from collections.abc import Callable

from jax import Array

from rbn_jax.network import NetworkParams
from rbn_jax.parameters.checks import check_names
from rbn_jax.rates import firing_rates
from rbn_jax.rates.theories import find_theory
from rbn_jax.sensitivity import elasticity, jacobian
from rbn_jax.weights import calculate_RBN_weights

_DERIVATIVES = {"jacobian": jacobian, "elasticity": elasticity}


def quantity_function(
    quantity: str, wrt: tuple[str, ...], theory: str | None
) -> Callable[..., object]:
    """Return the function of a network that computes a quantity.

    Args:
        quantity: "weights", "rates", or "jacobian" or "elasticity" of the weights.
        wrt: the parameters of the derivatives.
        theory: of the rates; None is "quenched".

    Raises:
        ValueError: an unknown quantity or theory; a theory of another quantity.
    """
    if theory is not None and quantity != "rates":
        raise ValueError(f"--theory {theory}: is for --quantity rates")
    if quantity == "rates":
        return rates_by_theory(theory or "quenched")
    if quantity == "weights":
        return calculate_RBN_weights
    check_names([quantity], ["weights", "rates", *_DERIVATIVES], "quantity")
    return functools.partial(_DERIVATIVES[quantity], calculate_RBN_weights, wrt=wrt)


# cached, because a sweep compiles every new function again
@functools.cache
def rates_by_theory(theory: str) -> Callable[..., Array]:
    """Return `firing_rates` of one theory, with its labels.

    Raises:
        ValueError: an unknown theory.
    """
    theory_model = find_theory(theory)

    def rates(params: NetworkParams) -> Array:
        return firing_rates(params, theory_model)

    functools.update_wrapper(rates, firing_rates)
    # a store compares functions by name, so that the name tells the theory
    if theory != "quenched":
        rates.__name__ = f"firing_rates_{theory}"
    return rates
