"""The synaptic weights and the rheobase current of a balanced random network."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from rbn_jax.network import NetworkParams, synapse_message, synapse_of_neuron
from rbn_jax.numerics import synapses
from rbn_jax.numerics.arrays import as_floats, formula, nan_unless, positive, same_rank
from rbn_jax.parameters.labels import label

PARAMETER_NAMES: tuple[str, ...] = (
    "N_E",
    "N_I",
    "E_L",
    "V_th_E",
    "V_th_I",
    "tau_E",
    "tau_I",
    "tau_syn_ex",
    "tau_syn_in",
    "gei",
    "gie",
    "gii",
    "baseline_conn_prob",
)


def _find_synapse(params: NetworkParams | Mapping[str, Any]) -> str:
    """Return the kind of synapses of a network; of a mapping that does not say it "exp".

    Raises:
        ValueError: a kind that no network has, or a neuron model whose synapses are not known.
    """
    if not isinstance(params, Mapping):
        synapse, neuron_type = params.synapse, params.neuron_type
    else:
        synapse, neuron_type = params.get("synapse"), params.get("neuron_type")
        if synapse is None and neuron_type is None:
            return "exp"
        if synapse is None:
            synapse = synapse_of_neuron(neuron_type)
    if message := synapse_message(synapse, neuron_type):
        raise ValueError(message)
    return str(synapse)


def js_unit(params: NetworkParams | Mapping[str, Any]) -> str:
    """Return the unit of `calculate_RBN_weights`."""
    return f"{synapse_unit(params)}*sqrt(N)"


def synapse_unit(params: NetworkParams | Mapping[str, Any]) -> str:
    """Return the unit of `synaptic_weights`: pA, but mV of "delta" synapses."""
    return "mV" if _find_synapse(params) == "delta" else "pA"


@label(units="pA*sqrt(N)", find_unit=js_unit, long_name="synaptic weight")
def calculate_RBN_weights(params: NetworkParams | Mapping[str, Any]) -> Array:
    """Synaptic weights of a balanced random network [pA sqrt(N)], [[EE, EI], [IE, II]].

    With N = N_E + N_I, K_xy = p_xy N_y, theta_x = V_th_x - E_L and A_xy the peak of the PSP
    of a synapse from y to x, which is
    `postsynaptic_current_to_potential(tau_x, tau_syn_y, C_m, synapse=synapse)`:

        EE = theta_E sqrt(N / K_EE) / A_EE        EI = -gei theta_E sqrt(N K_EE) / (K_EI A_EI)
        IE = gie theta_I sqrt(N / K_IE) / A_IE    II = -gii gie theta_I sqrt(N K_IE) / (K_II A_II)

    so that sqrt(K_EE) simultaneous events take an excitatory neuron from rest to threshold at
    s = 1. At equal rates of E and I, the PSP peaks of all inhibitory inputs add up to gei (in E)
    or gii (in I) times those of all excitatory ones. `synaptic_weights` returns the weights in pA,
    as a simulator takes them: `s * weight / sqrt(N)`. Weights of "delta" synapses are in
    mV sqrt(N): their A is 1, whatever tau_x, tau_syn_y and C_m are.

    Args:
        params: a NetworkParams, or a mapping with the keys of NEST's example; without `C_m` it
            is 1 pF. Its synapses are those of the key `synapse`, else those of the key
            `neuron_type` as in `NetworkParams`, and else exponential. Values broadcast, except
            the last two axes of `baseline_conn_prob`. A grid of axes (n, 1) and (m,) costs n + m
            evaluations of the factors that depend on one axis.

    Returns:
        (..., 2, 2) weights, rows are targets, columns sources. A weight is NaN, with its
        derivatives, where a time constant, `C_m`, a number of neurons or a threshold minus E_L in
        its formula is not positive, or a probability is not in (0, 1]; a synaptic time constant of
        "delta" may be 0. Reverse-mode derivatives
        of the other weights are NaN, too: their formulas have the NaN as a factor of 0.

    Raises:
        ValueError: a mapping lacks keys, all of which are named; a matrix is not 2x2; a
            `neuron_type` whose synapses are not known, or another `synapse`.

    Source: Rostami et al. (2020), doi 10.1101/2020.02.27.968339, Eqs. 7-10, as in NEST's
    EI_clustered_network/helper.py, which takes C_m = 1 pF whatever `C_m` says.

    >>> import numpy as np
    >>> print(np.asarray(calculate_RBN_weights(NetworkParams()), float).round(3))
    [[ 15.874 -30.478]
     [ 12.649 -50.596]]
    >>> alpha = NetworkParams(neuron_type="iaf_psc_alpha")
    >>> print(np.asarray(calculate_RBN_weights(alpha), float).round(3))
    [[  6.655 -12.778]
     [  5.713 -22.852]]
    >>> import jax
    >>> jax.jacfwd(calculate_RBN_weights)(NetworkParams()).tau_syn_ex.shape
    (2, 2)
    """
    return _weights(synapse=_find_synapse(params), **_read_values(params, PARAMETER_NAMES))


@label(units="pA", find_unit=synapse_unit, long_name="synaptic weight")
def synaptic_weights(params: NetworkParams | Mapping[str, Any]) -> Array:
    """Weights of single synapses, as a simulator takes them [pA], [[EE, EI], [IE, II]].

    They are s js / sqrt(N), with N = N_E + N_I and js from `calculate_RBN_weights`. The root of N
    cancels: EE = s theta_E / (sqrt(K_EE) A_EE). Those of "delta" synapses are in mV. They are the
    weights without clusters;
    `cluster_factors` has the factors of weights within and between clusters. The
    method `NetworkParams.weights` calls this function.

    Args:
        params: as in `calculate_RBN_weights`; a mapping also needs `s`, the factor on all weights.

    Returns:
        (..., 2, 2) weights, rows are targets, columns sources. NaN, with its derivatives, as in
        `calculate_RBN_weights`.

    Raises:
        ValueError: as in `calculate_RBN_weights`.

    Source: NEST's EI_clustered_network/network.py.

    >>> import numpy as np
    >>> print(np.asarray(synaptic_weights(NetworkParams()), float).round(4))
    [[ 0.2245 -0.431 ]
     [ 0.1789 -0.7155]]
    """
    values = _read_values(params, (*PARAMETER_NAMES, "s"))
    return _weights(synapse=_find_synapse(params), **values)


def _read_values(
    params: NetworkParams | Mapping[str, Any], names: tuple[str, ...]
) -> dict[str, ArrayLike]:
    """Return the values of C_m and of the parameters of these names.

    Raises:
        ValueError: a mapping lacks keys.
    """
    if not isinstance(params, Mapping):
        return {name: getattr(params, name) for name in ("C_m", *names)}
    missing = [name for name in names if name not in params]
    if missing:
        raise ValueError(f"params lacks {', '.join(missing)}")
    return {"C_m": params.get("C_m", 1.0)} | {name: params[name] for name in names}


@formula
def _weights(*, synapse: str, **values: ArrayLike) -> Array:
    """Return the matrix from C_m and the values of PARAMETER_NAMES; with s that of synapses."""
    s = values.get("s", 1.0)
    c_m, scale, *numbers, prob = as_floats(
        values["C_m"], s, *(values[name] for name in PARAMETER_NAMES)
    )
    if prob.shape[-2:] != (2, 2):
        raise ValueError(f"baseline_conn_prob has the shape {prob.shape}: must be (..., 2, 2)")
    prob = nan_unless((prob > 0) & (prob <= 1), prob)
    entries = (prob[..., 0, 0], prob[..., 0, 1], prob[..., 1, 0], prob[..., 1, 1])
    c_m, scale, *numbers, p_ee, p_ei, p_ie, p_ii = same_rank(c_m, scale, *numbers, *entries)
    n_e, n_i, e_l, v_th_e, v_th_i, tau_e, tau_i, tau_ex, tau_in, gei, gie, gii = numbers
    n_e = positive(n_e)
    n_i = positive(n_i)
    k_ee = p_ee * n_e
    k_ei = p_ei * n_i
    k_ie = p_ie * n_e
    k_ii = p_ii * n_i
    # of synapses sqrt(N) cancels, but an invalid N_E or N_I still makes all of them NaN
    has_scale = "s" in values
    scale = nan_unless(n_e + n_i > 0, scale) if has_scale else jnp.sqrt(n_e + n_i)
    # scaled charge from rest to threshold; the row of the targets I has the factor gie
    charge_e = positive(v_th_e - e_l) * synapses.capacitance(synapse, c_m) * scale
    charge_i = positive(v_th_i - e_l) * synapses.capacitance(synapse, c_m) * scale * gie

    def inverse_peak(tau_m: Array, tau_syn: Array) -> Array:
        return synapses.inverse_peak(synapses.TimeConstants(synapse, tau_m, tau_syn, None))

    return _matrix(
        charge_e / jnp.sqrt(k_ee) * inverse_peak(tau_e, tau_ex),
        -gei * charge_e * jnp.sqrt(k_ee) / k_ei * inverse_peak(tau_e, tau_in),
        charge_i / jnp.sqrt(k_ie) * inverse_peak(tau_i, tau_ex),
        -gii * charge_i * jnp.sqrt(k_ie) / k_ii * inverse_peak(tau_i, tau_in),
    )


def _matrix(ee: Array, ei: Array, ie: Array, ii: Array) -> Array:
    """Return [[EE, EI], [IE, II]] on two new last axes.

    If all four arrays have one shape, selects: XLA on a CPU vectorises them. If the arrays
    broadcast to a grid, a stack: XLA copies it faster. The other way round each takes several
    times as long.
    """
    if ee.shape == ei.shape == ie.shape == ii.shape:
        is_first = jnp.arange(2) == 0
        ee, ei, ie, ii = (entry[..., None, None] for entry in (ee, ei, ie, ii))
        row_e = jnp.where(is_first, ee, ei)
        row_i = jnp.where(is_first, ie, ii)
        return jnp.where(is_first[:, None], row_e, row_i)
    ee, ei, ie, ii = jnp.broadcast_arrays(ee, ei, ie, ii)
    return jnp.stack([jnp.stack([ee, ei], -1), jnp.stack([ie, ii], -1)], -2)


@label(units="pA", long_name="rheobase current")
@formula
def rheobase_current(tau_m: ArrayLike, e_l: ArrayLike, v_th: ArrayLike, c_m: ArrayLike) -> Array:
    """Current whose steady potential is the threshold, (v_th - e_l) c_m / tau_m [pA].

    Args:
        tau_m: membrane time constant [ms], > 0.
        e_l: resting potential [mV].
        v_th: threshold [mV]; below e_l the current is negative.
        c_m: membrane capacitance [pF], > 0.

    Returns:
        The current [pA], in the broadcast shape; NaN outside the domain.

    Source: NEST's EI_clustered_network/helper.py.

    >>> print(rheobase_current(20.0, -70.0, -50.0, 250.0))
    250.0
    """
    tau_m, e_l, v_th, c_m = same_rank(*as_floats(tau_m, e_l, v_th, c_m))
    return (v_th - e_l) * positive(c_m) / positive(tau_m)
