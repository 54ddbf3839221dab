"""`rbn-jax weights`: the weights of one network."""

import json

import jax
import numpy as np

from rbn_jax.cli import terminal
from rbn_jax.cli.options import AsJson, Params, Preset, Settings
from rbn_jax.network import NetworkParams
from rbn_jax.parameters.access import to_plain
from rbn_jax.weights import calculate_RBN_weights


def print_weights(net: NetworkParams, matrix: np.ndarray) -> None:
    """The weights as two tables, of the matrix and of one synapse."""
    print(f"{net}, rows are targets, columns sources\n\nweights js [pA*sqrt(N)]")
    print(terminal.table(matrix, ["E", "I"], ["E", "I"]))
    print("\nof one synapse, s*js/sqrt(N_E + N_I) [pA]")
    print(terminal.table(synapses(net, matrix), ["E", "I"], ["E", "I"]))


def synapses(net: NetworkParams, matrix: np.ndarray) -> np.ndarray:
    """The weight of one synapse [pA], from the matrix js [pA sqrt(N)]."""
    return np.asarray(net.s * matrix / np.sqrt(net.N_E + net.N_I))


def weights(
    params: Params = None,
    preset: Preset = "nest",
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Print the 2x2 weights [pA*sqrt(N)] of one network.

    Example: rbn-jax weights --set tau_syn_ex=3 --set tau_syn_in=2
    """
    net = terminal.parse_network(params, preset, settings)
    with jax.enable_x64(True):
        matrix = np.asarray(calculate_RBN_weights(net))
    if as_json:
        one = synapses(net, matrix).tolist()
        print(json.dumps({"weights": matrix.tolist(), "synapses": one, "params": to_plain(net)}))
    else:
        print_weights(net, matrix)
