"""`rbn-jax weights`: the weights of one network."""

import json

import jax
import numpy as np
from jax import Array

from rbn_jax.cli.arguments import parse_network
from rbn_jax.cli.options import AsJson, Params, Preset, Settings
from rbn_jax.cli.output import format_table
from rbn_jax.network import NetworkParams
from rbn_jax.parameters.access import to_plain
from rbn_jax.weights import calculate_RBN_weights, js_unit, synapse_unit, synaptic_weights

_POPULATIONS = ["E", "I"]


def weights(
    params: Params = None,
    preset: Preset = "nest",
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Print the 2x2 weights [pA*sqrt(N)] of one network.

    Those of delta synapses are in mV*sqrt(N).

    Example: rbn-jax weights --set tau_syn_ex=3 --set neuron_type=iaf_psc_alpha
    """
    net = parse_network(params, preset, settings)
    if not as_json:
        print_weights(net)
        return
    js, synapses = compute_weights(net)
    report = {
        "weights": js.tolist(),
        "synapses": synapses.tolist(),
        "units": {"weights": js_unit(net), "synapses": synapse_unit(net)},
        "params": to_plain(net),
    }
    print(json.dumps(report))


def print_weights(net: NetworkParams) -> None:
    """Print the weights as two tables: of the matrix, and of one synapse."""
    js, synapses = compute_weights(net)
    print(f"{net}, rows are targets, columns sources\n\nweights js [{js_unit(net)}]")
    print(format_table(js, _POPULATIONS, _POPULATIONS))
    print(f"\nof one synapse, s*js/sqrt(N_E + N_I) [{synapse_unit(net)}]")
    print(format_table(synapses, _POPULATIONS, _POPULATIONS))


def compute_weights(net: NetworkParams) -> tuple[np.ndarray, np.ndarray]:
    """Return the matrix js, and the weights of one synapse [js_unit(net), synapse_unit(net)]."""
    with jax.enable_x64(True):
        js, synapses = _both_weights(net)
        return np.asarray(js), np.asarray(synapses)


@jax.jit
def _both_weights(net: NetworkParams) -> tuple[Array, Array]:
    """Return both matrices by one program, as each would take as long to compile."""
    return calculate_RBN_weights(net), synaptic_weights(net)
