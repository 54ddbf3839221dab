"""What a network does in time: population dynamics, volleys, lock-step."""

from rbn_jax.dynamics.activity import Dynamics
from rbn_jax.dynamics.simulation import population_dynamics, population_spikes
from rbn_jax.dynamics.starts import STARTS
from rbn_jax.dynamics.states import network_states
from rbn_jax.dynamics.volleys import volley_rate

__all__ = [
    "STARTS",
    "Dynamics",
    "network_states",
    "population_dynamics",
    "population_spikes",
    "volley_rate",
]
