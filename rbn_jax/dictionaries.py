"""Parameter dictionaries of published programs, read under the names of NEST's example.

Three programs simulate this network from a dictionary of parameters:

- NEST 3.10, EI_clustered_network;
- the code of Rostami et al. (2024), nawrotlab/ClusteredNetwork_pub;
- the code of Schmitt, Müller & Nawrot (2026), schmitfe/EI-Clustering.

`READ_AS` is the table of the names that differ. A key that changes the network in a way that
`NetworkParams` cannot represent is an error, never ignored.
"""

from collections.abc import Collection, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np

from rbn_jax.parameters import checks

Unknown = Literal["raise", "ignore"]
"""What is done with a key that is not known."""

READ_AS: dict[str, tuple[str, ...]] = {
    "ps": ("baseline_conn_prob",),
    "ge": ("gei",),
    "gi": ("gii",),
    "Q": ("n_clusters",),
    "jep": ("rep",),
    "jipfactor": ("rj",),
    "jipratio": ("rj",),
    "jplus": ("rep", "rj"),
    "pplus": ("rep", "rj"),
    "I_xE": ("I_th_E",),
    "I_xI": ("I_th_I",),
}
"""Our names of the keys that have another name; `_CONVERTED` are not renamed but converted."""

# kappa for which the matrix is read: jplus are factors of weights, pplus of probabilities
_FACTOR_MATRICES = {"jplus": 1.0, "pplus": 0.0}
# currents in pA, which the programs read where the current in units of the rheobase is None
_CURRENTS = {"I_xE": "I_th_E", "I_xI": "I_th_I"}
_CONVERTED = {*_FACTOR_MATRICES, *_CURRENTS}
# Rostami et al. round jplus to 5 decimals, so their jep and jipfactor differ from it by this
_ROUNDING = 1e-5
# relative error of numbers that are equal but for the arithmetic that gave them
_ARITHMETIC = 1e-12

# keys that do not change the unstimulated network
_IGNORED = frozenset(
    # NEST's example and EI-Clustering
    "warmup simtime dt randseed n_vp stim_clusters stim_amp stim_starts stim_ends rho "
    # simulation, stimulus and recording of Rostami et al.
    "n_jobs record_voltage record_from recording_interval recordables return_weights "
    "return_spiketimes multi_stim_clusters multi_stim_amps multi_stim_times plot_stimuli eps "
    # other neuron and synapse models, which their published code does not use
    "lambda_0 Delta_V g_L_E g_L_I q_sfa tau_sfa Q_AdapI tau_stc q_stc DistParams syn_params "
    "portion_I mazzucato_jminus mazzucato_js "
    # trials and analysis of their figures
    "jep_range spike_js ff_window trials trial_length min_vals_cv2 stim_length isi isi_vari "
    "cut_window rate_kernel conditions condition_stim_amps rs_stim_amp rs_length prep_length "
    "clusters_per_direction focus_cluster focus_interval focus_unit calc_synchrony pool "
    "synchrony_tlim".split()
)
# their value None leaves the choice to another key
_OPTIONAL = frozenset(
    ["kappa", "connection_rule", "synapse", "js", "delta", "delta_", *_FACTOR_MATRICES]
)


class ReadParameters(NamedTuple):
    """The values of a dictionary under our names.

    Attributes:
        values: by the name of a field, as they were given.
        currents: background currents [pA] by the name of the field in units of the rheobase.
    """

    values: dict[str, Any]
    currents: dict[str, Any]


def read_dictionary(
    mapping: Mapping[str, Any], fields: Collection[str], unknown: Unknown = "raise"
) -> ReadParameters:
    """Return the values of a dictionary of one of the programs under our names.

    Args:
        mapping: the dictionary, or a part of it.
        fields: the names of the fields of `NetworkParams`.
        unknown: "raise" an error for a key that is not known, or "ignore" it.

    Raises:
        ValueError: `mapping` is no dictionary, or `unknown` is another text; an unknown key; two
            keys with different values for one field; a key that changes the network in a way that
            no field represents.

    >>> read_dictionary({"Q": 50, "jplus": [[11, 8.5], [8.5, 8.5]]}, ["n_clusters"]).values
    {'n_clusters': 50, 'rep': 11.0, 'rj': 0.75}
    """
    if not isinstance(mapping, Mapping):
        raise ValueError(f"mapping is a {type(mapping).__name__}: must be a dictionary")
    if unknown not in ("raise", "ignore"):
        raise ValueError(f"unknown={unknown!r}: must be 'raise' or 'ignore'")
    values: dict[str, Any] = {}
    keys: dict[str, str] = {}  # the key that gave the value of a field
    for key, value in mapping.items():
        if key in _IGNORED or key in _CONVERTED or (key in _OPTIONAL and value is None):
            continue
        if key == "js":
            _refuse_given_weights(value)
        elif key in ("delta", "delta_"):
            _refuse_escape_noise(key, value)
        elif key in fields or key in READ_AS:
            name = READ_AS[key][0] if key in READ_AS else key
            if name in values and not np.array_equal(values[name], value):
                raise _conflict_error(f"{keys[name]}={values[name]!r}", f"{key}={value!r}")
            values[name] = value
            keys[name] = key
        elif unknown == "raise":
            raise _unknown_key_error(key, fields)
    _refuse_lost_inhibition(values, keys)
    _read_choices(values)
    for key in _FACTOR_MATRICES:
        if mapping.get(key) is not None:
            _read_factors(key, mapping[key], values, keys)
    return ReadParameters(values, _read_currents(mapping, values))


def _unknown_key_error(key: object, fields: Collection[str]) -> ValueError:
    error = checks.unknown_name_error(key, [*fields, *READ_AS])
    return ValueError(
        f'{error}. from_mapping and from_toml leave unknown names out with unknown="ignore"'
    )


def _conflict_error(first: str, second: str) -> ValueError:
    return ValueError(f"{first} and {second}: must agree; leave one of them out")


def _refuse_given_weights(js: object) -> None:
    """Refuse weights that are given; the programs compute them where an entry is NaN."""
    weights = np.asarray(checks.to_matrix("js", js))
    if not np.isnan(weights).any():
        raise ValueError(
            f"js={weights.tolist()}: given weights are not represented. Leave js out if it was "
            "computed, as in the parameters that a simulation returns; otherwise set s, gei, gie "
            "and gii"
        )


def _refuse_escape_noise(key: str, value: object) -> None:
    """Refuse a stochastic threshold; the width 0 is NEST's deterministic neuron."""
    if np.any(checks.to_number(key, value)):
        raise ValueError(
            f"{key}={value!r}: neurons with a stochastic threshold are not represented; "
            f"leave {key} out for a deterministic one"
        )


def _refuse_lost_inhibition(values: Mapping[str, Any], keys: Mapping[str, str]) -> None:
    """Refuse E clusters with a fixed in-degree of the code of Rostami et al.

    With jipfactor 0 it makes one population of I, but still takes the in-degree from a cluster:
    1/Q of the inhibitory connections.
    """
    is_from_their_code = keys.get("rj") in ("jipfactor", "jipratio")
    if is_from_their_code and values.get("fixed_indegree") and np.all(values["rj"] == 0):
        raise ValueError(
            f"{keys['rj']}=0 and fixed_indegree=True: the published code then makes 1/Q of the "
            "inhibitory connections, which is not represented; give rj=0 for a network with all"
        )


def _read_choices(values: dict[str, Any]) -> None:
    """Read the choices of EI-Clustering, which also takes a number for `clustering`."""
    clustering = values.get("clustering")
    if clustering is not None and checks.is_number(clustering):
        kappa = values.setdefault("kappa", clustering)
        if not np.array_equal(kappa, clustering):
            raise _conflict_error(f"clustering={clustering!r}", f"kappa={kappa!r}")
        del values["clustering"]
    rule = values.get("connection_rule")
    if isinstance(rule, str | np.ndarray):
        rule = str(rule).lower().replace("-", "_")
        values["connection_rule"] = rule
        values.setdefault("fixed_indegree", rule == "fixed_indegree")


def _read_factors(
    key: str, matrix: object, values: dict[str, Any], keys: Mapping[str, str]
) -> None:
    """Set rep and rj from the factors within clusters [[EE, EI], [IE, II]].

    The programs connect with the matrix. Where rep and rj are given, too, they must agree with it
    to the 5 decimals to which it may be rounded.
    """
    factors = np.asarray(checks.to_matrix(key, matrix), float)
    if factors.shape != (2, 2):
        raise ValueError(f"{key} has the shape {factors.shape}: must be (2, 2)")
    _check_kappa_of_matrix(key, values)
    n_clusters = values.get("n_clusters")
    if n_clusters is not None and np.all(checks.to_number("n_clusters", n_clusters) == 1):
        # the programs replace the factors of a single cluster by ones
        values.setdefault("rep", 1.0)
        return

    excitatory, other, *same = factors.ravel().tolist()
    if not np.allclose(same, other, rtol=_ARITHMETIC, atol=0.0):
        raise ValueError(
            f"{key}={factors.tolist()}: EI, IE and II must be equal, since one factor "
            "1 + (rep - 1) rj is represented for all three"
        )
    rep = checks.to_number("rep", values.get("rep", excitatory))
    if not np.allclose(rep, excitatory, rtol=0.0, atol=_ROUNDING):
        raise _conflict_error(f"{keys['rep']}={rep!r}", f"{key}[0, 0]={excitatory!r}")
    if not np.allclose(rep, excitatory, rtol=_ARITHMETIC, atol=0.0):
        rep = excitatory
    values["rep"] = rep

    if "rj" in values:
        rj = checks.to_number("rj", values["rj"])
        expected = 1.0 + (rep - 1.0) * rj
        if not np.allclose(expected, other, rtol=0.0, atol=_ROUNDING):
            error = _conflict_error(f"{keys['rj']}={rj!r}", f"{key}[0, 1]={other!r}")
            # line 94 of network.py in NEST 3.10
            hint = "; NEST's example has 1 + (rep - 1)**rj in pplus" if key == "pplus" else ""
            raise ValueError(f"{error}. The factor of rj is 1 + (rep - 1) rj{hint}")
        if np.allclose(expected, other, rtol=_ARITHMETIC, atol=0.0):
            return
    if excitatory != 1.0:
        values["rj"] = (other - 1.0) / (excitatory - 1.0)
    elif other != 1.0:
        raise ValueError(
            f"{key}={factors.tolist()}: clusters of EI, IE and II without those of EE are not "
            "represented: with rep=1 the factor 1 + (rep - 1) rj is 1"
        )


def _check_kappa_of_matrix(key: str, values: Mapping[str, Any]) -> None:
    """Refuse factors of weights where probabilities have the factors, and the reverse."""
    kappa = values.get("kappa")
    if kappa is None:
        kappa = 0.0 if values.get("clustering") == "probabilities" else 1.0
    if not np.all(checks.to_number("kappa", kappa) == _FACTOR_MATRICES[key]):
        raise ValueError(
            f"{key} and kappa={kappa!r}: {key} is read where kappa is {_FACTOR_MATRICES[key]:g}; "
            "give rep and rj instead"
        )


def _read_currents(mapping: Mapping[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """Return the currents in pA of populations whose current in units of the rheobase is None.

    Such a field is taken out of `values`.
    """
    currents = {}
    for key, name in _CURRENTS.items():
        if name in values and values[name] is None and mapping.get(key) is not None:
            currents[name] = checks.to_number(key, mapping[key])
            del values[name]
        elif name not in values and mapping.get(key) is not None:
            raise ValueError(
                f"{key}={mapping[key]!r}: the programs read it only where {name} is None; give "
                f"{name}=None, too, or {name} in units of the rheobase instead"
            )
    return currents
