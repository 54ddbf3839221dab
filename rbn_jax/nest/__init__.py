"""From a NetworkParams to spikes in NEST (extra "nest")."""

from rbn_jax.nest.arguments import ConnectionArguments as ConnectionArguments
from rbn_jax.nest.arguments import NestArguments as NestArguments
from rbn_jax.nest.arguments import NeuronArguments as NeuronArguments
from rbn_jax.nest.arguments import connection_args as connection_args
from rbn_jax.nest.comparison import compare as compare
from rbn_jax.nest.simulation import NestNetwork as NestNetwork
from rbn_jax.nest.simulation import Stimulus as Stimulus
from rbn_jax.nest.simulation import build as build
from rbn_jax.nest.simulation import simulate as simulate
from rbn_jax.nest.statistics import SimulationStatistics as SimulationStatistics
from rbn_jax.nest.statistics import run as run

__all__ = [
    "ConnectionArguments",
    "NestArguments",
    "NestNetwork",
    "NeuronArguments",
    "SimulationStatistics",
    "Stimulus",
    "build",
    "compare",
    "connection_args",
    "run",
    "simulate",
]
