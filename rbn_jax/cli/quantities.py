"""The functions that `rbn-jax sweep` evaluates, by name."""

import functools
from collections.abc import Callable
from typing import Any

from rbn_jax import nest
from rbn_jax.network import NetworkParams
from rbn_jax.parameters.checks import check_names
from rbn_jax.rates import firing_rates, mean_field
from rbn_jax.rates.theories import find_theory
from rbn_jax.sensitivity import elasticity, jacobian
from rbn_jax.weights import calculate_RBN_weights, synaptic_weights

WEIGHTS = {"js": calculate_RBN_weights, "weights": synaptic_weights}
DERIVATIVES = {"jacobian": jacobian, "elasticity": elasticity}
STATES = {"rates": firing_rates, "mean_field": mean_field}
SIMULATION = "nest"
"""The quantity for which each point is a simulation in NEST."""


def quantity_function(
    quantity: str, wrt: tuple[str, ...], theory: str | None, simulation: dict[str, Any]
) -> Callable[..., object]:
    """Return the function of a network that computes a quantity.

    Args:
        quantity: a name in WEIGHTS or STATES, in DERIVATIVES for those of the matrix js, or
            SIMULATION.
        wrt: the parameters of the derivatives.
        theory: of the state; None is "quenched".
        simulation: arguments of `nest.run`.

    Raises:
        ValueError: an unknown quantity or theory; a theory, or an argument of a simulation, of
            another quantity.
    """
    check_names([quantity], [*WEIGHTS, *DERIVATIVES, *STATES, SIMULATION], "quantity")
    if simulation and quantity != SIMULATION:
        raise ValueError(f"--{next(iter(simulation))}: is for --quantity {SIMULATION}")
    if theory is not None and quantity not in STATES:
        raise ValueError(f"--theory {theory}: is for --quantity {' or '.join(STATES)}")
    if quantity == SIMULATION:
        return functools.partial(nest.run, **simulation)
    if quantity in STATES:
        return state_by_theory(theory or "quenched", STATES[quantity])
    if quantity in WEIGHTS:
        return WEIGHTS[quantity]
    return functools.partial(DERIVATIVES[quantity], calculate_RBN_weights, wrt=wrt)


# cached, because a sweep compiles every new function again
@functools.cache
def state_by_theory(theory: str, fn: Callable[..., object] = firing_rates) -> Callable[..., object]:
    """Return `firing_rates` or `mean_field` of one theory.

    Raises:
        ValueError: an unknown theory.
    """
    theory_model = find_theory(theory)

    def state(params: NetworkParams) -> object:
        return fn(params, theory_model)

    functools.update_wrapper(state, fn)
    # a store compares functions by name, so that the name tells the theory
    if theory != "quenched":
        state.__name__ += f"_{theory}"
    return state
