"""NetworkParams: every parameter of the network under NEST's name, as one pytree."""

import dataclasses
import inspect
import json
import os
import tomllib
from collections.abc import Iterable, Mapping
from typing import Any, Self, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from rbn_jax.dictionaries import Unknown, read_dictionary
from rbn_jax.parameters import checks
from rbn_jax.parameters.access import MATRIX_ENTRIES, read_parameters, split_element, to_plain
from rbn_jax.parameters.domains import (
    COUNT,
    NOT_NEGATIVE,
    POSITIVE,
    PROBABILITY,
    REAL,
    SHARE,
    choice,
    number,
    number_fields,
)

Numbers: TypeAlias = float | np.ndarray | Array
"""One number, or an array of them for a batch of networks."""

_COUNTS = ("N_E", "N_I", "n_clusters")
_MATRIX = "baseline_conn_prob"
SYNAPTIC_TIME_CONSTANTS = ("tau_syn_ex", "tau_syn_in")
_ORDERED_POTENTIALS = (
    ("E_L", "V_th_E"),
    ("E_L", "V_th_I"),
    ("V_r", "V_th_E"),
    ("V_r", "V_th_I"),
)

SYNAPSES = ("exp", "alpha", "delta")
"""The kinds of synapses that a network may have: see `rbn_jax.psp`."""

# NEST's models of a leaky integrate-and-fire neuron with current-based synapses begin so; what
# follows, as in iaf_psc_exp_ps, changes the time grid or the number of synaptic time constants
_SYNAPSE_OF_PREFIX = {"iaf_psc_exp": "exp", "iaf_psc_alpha": "alpha", "iaf_psc_delta": "delta"}
# NEST's other models whose weights mean the same. Not iaf_tum_2000, whose weights are multiplied
# by a state of short-term plasticity, nor models whose membrane is not linear.
_SYNAPSE_OF_MODEL = {
    "gif_psc_exp": "exp",
    "gif_psc_exp_multisynapse": "exp",
    "mat2_psc_exp": "exp",
    "amat2_psc_exp": "exp",
    "glif_psc": "alpha",
    "pp_psc_delta": "delta",
}


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class NetworkParams(checks.ParameterSet):
    """The parameters of a balanced random network; the defaults are NEST's EI_clustered_network.

    Numbers are leaves of a pytree: each can be an array, an axis of a sweep, a gradient.
    Choices are static. Integers given for numbers become floats, so that they have derivatives;
    NumPy's booleans and arrays of no axes given for choices become Python's values. Domains are
    not checked on construction, where values may be tracers: `check` does it, and so does every
    function that takes parameters from outside.

    Neurons
        E_L, V_r: resting and reset potential [mV]
        V_th_E, V_th_I: thresholds [mV]
        C_m: membrane capacitance [pF]
        tau_E, tau_I: membrane time constants [ms]
        t_ref: refractory period [ms]
        neuron_type: NEST's neuron model; its name gives the default of `synapse`
        V_m: initial membrane potential [mV], or "rand"
    Synapses
        synapse: "exp", "alpha" or "delta", as `rbn_jax.psp` describes them. By default that of
            `neuron_type`: "exp" of iaf_psc_exp, gif_psc_exp, mat2_psc_exp and amat2_psc_exp,
            "alpha" of iaf_psc_alpha and glif_psc, "delta" of iaf_psc_delta and pp_psc_delta. A
            name that begins with one of the three iaf_psc models is taken for it. Given
            explicitly it holds whatever `neuron_type` is
        tau_syn_ex, tau_syn_in: synaptic time constants [ms]; without effect for "delta", where
            they may be 0
        delay: synaptic delay [ms]
        gei, gie, gii: weight ratios of I to E, E to I and I to I
        s: factor on all weights
    Input
        I_th_E, I_th_I: background currents in units of the rheobase current
        delta_I_xE, delta_I_xI: relative width of their distributions
    Network
        N_E, N_I: numbers of neurons
        baseline_conn_prob: (2, 2) connection probabilities [[EE, EI], [IE, II]], rows are
            targets; one entry is named by its pair, baseline_conn_prob_EI for [0, 1]
        connection_rule: "pairwise_bernoulli", "pairwise_poisson" or "fixed_indegree", NEST's
            names; by default the first one, or the last one where fixed_indegree is True
        fixed_indegree: the name of NEST's example for connection_rule="fixed_indegree"
    Clusters; `cluster_factors` has the formulas
        n_clusters: number of clusters
        rep: factor by which clustering strengthens connections from E to E within a cluster
        rj: (rep - 1) rj + 1 is this factor of all other connections
        clustering: whether the "weight" or the "probabilities" of connections have this factor
        kappa: the exponent 0..1 with which weights have it; probabilities have the exponent
            1 - kappa. By default 1 where clustering is "weight", and 0 for "probabilities"

    Weights are in pA, and in mV for "delta" synapses.

    Source: NEST 3.10, EI_clustered_network/network_params.py, after Rostami et al. (2024),
    doi 10.1038/s41467-024-49889-4.

    >>> NetworkParams(tau_syn_ex=3.0, tau_syn_in=2.0)
    NetworkParams(tau_syn_ex=3.0, tau_syn_in=2.0)
    >>> NetworkParams(neuron_type="iaf_psc_alpha").synapse
    'alpha'
    """

    neuron_type: str = choice("iaf_psc_exp")
    # None stands for what `neuron_type` says, and is replaced on construction
    synapse: str | None = choice(None)
    E_L: Numbers = number("mV", "resting potential", REAL, default=0.0)
    C_m: Numbers = number("pF", "membrane capacitance", POSITIVE, default=1.0)
    tau_E: Numbers = number("ms", "membrane time constant of E", POSITIVE, default=20.0)
    tau_I: Numbers = number("ms", "membrane time constant of I", POSITIVE, default=10.0)
    t_ref: Numbers = number("ms", "refractory period", NOT_NEGATIVE, default=5.0)
    V_th_E: Numbers = number("mV", "threshold of E", REAL, default=20.0)
    V_th_I: Numbers = number("mV", "threshold of I", REAL, default=20.0)
    V_r: Numbers = number("mV", "reset potential", REAL, default=0.0)
    tau_syn_ex: Numbers = number(
        "ms", "time constant of excitatory synapses", POSITIVE, default=5.0
    )
    tau_syn_in: Numbers = number(
        "ms", "time constant of inhibitory synapses", POSITIVE, default=5.0
    )
    delay: Numbers = number("ms", "synaptic delay", POSITIVE, default=0.1)
    I_th_E: Numbers = number(
        "", "background current of E in units of its rheobase", REAL, default=1.25
    )
    I_th_I: Numbers = number(
        "", "background current of I in units of its rheobase", REAL, default=0.78
    )
    delta_I_xE: Numbers = number(
        "", "relative width of the background currents of E", NOT_NEGATIVE, default=0.0
    )
    delta_I_xI: Numbers = number(
        "", "relative width of the background currents of I", NOT_NEGATIVE, default=0.0
    )
    V_m: str | float = choice("rand")
    N_E: Numbers = number("", "number of neurons in E", COUNT, default=4000.0)
    N_I: Numbers = number("", "number of neurons in I", COUNT, default=1000.0)
    n_clusters: Numbers = number("", "number of clusters", COUNT, default=20.0)
    baseline_conn_prob: Numbers = number(
        "",
        "connection probability",
        PROBABILITY,
        ndim=2,
        default_factory=lambda: np.array([[0.2, 0.5], [0.5, 0.5]]),
    )
    gei: Numbers = number("", "ratio of inhibition to excitation in E", NOT_NEGATIVE, default=1.2)
    gie: Numbers = number("", "factor on all weights to neurons in I", NOT_NEGATIVE, default=1.0)
    gii: Numbers = number("", "ratio of inhibition to excitation in I", NOT_NEGATIVE, default=1.0)
    s: Numbers = number("", "factor on all weights", NOT_NEGATIVE, default=1.0)
    # None stands for what `fixed_indegree` says, and is replaced on construction
    connection_rule: str | None = choice(
        None, "pairwise_bernoulli", "pairwise_poisson", "fixed_indegree"
    )
    fixed_indegree: bool = choice(False, False, True)
    clustering: str = choice("weight", "weight", "probabilities")
    rj: Numbers = number(
        "", "ratio of inhibitory to excitatory clustering", NOT_NEGATIVE, default=0.82
    )
    rep: Numbers = number("", "excitatory clustering factor", NOT_NEGATIVE, default=6.0)
    # None stands for what `clustering` says, and is replaced on construction
    kappa: Numbers = number("", "exponent of clustering in weights", SHARE, default=None)

    def __new__(cls, *args: object, **values: object) -> Self:
        """Refuse unknown names with the similar ones, where Python would name none."""
        if args:
            raise TypeError("NetworkParams takes name=value; a mapping goes into from_mapping")
        for name in values:
            if split_element(name).path == _MATRIX and name != _MATRIX:
                raise TypeError(f"{name} is an entry: NetworkParams().replace({name}=...) sets it")
            if name not in cls.__dataclass_fields__:
                raise TypeError(str(checks.unknown_name_error(name, cls.__dataclass_fields__)))
        return super().__new__(cls)

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if message := checks.masked_message(name, value):
                raise ValueError(message)
            convert = checks.to_floating if name in NUMBER_FIELDS else _to_choice
            object.__setattr__(self, name, convert(value))
        if self.kappa is None:
            object.__setattr__(self, "kappa", self._kappa_of_clustering())
        if self.synapse is None:
            object.__setattr__(self, "synapse", synapse_of_neuron(self.neuron_type))
        if self.connection_rule is None:
            object.__setattr__(self, "connection_rule", self._rule_of_fixed_indegree())
        if self.connection_rule == "fixed_indegree":
            object.__setattr__(self, "fixed_indegree", True)

    def _kappa_of_clustering(self) -> float:
        return 0.0 if self.clustering == "probabilities" else 1.0

    def _rule_of_fixed_indegree(self) -> str:
        return "fixed_indegree" if self.fixed_indegree is True else "pairwise_bernoulli"

    def replace(self, **changes: object) -> Self:
        """Return a copy with other values, by field name or by an entry of the matrix.

        A change of `clustering` changes `kappa`, too, one of `neuron_type` changes `synapse`, and
        `connection_rule` and `fixed_indegree` change each other, unless both are given.

        Raises:
            ValueError: a name that does not exist; lists similar names.

        >>> NetworkParams().replace(gei=1.5, baseline_conn_prob_EE=0.1).baseline_conn_prob[0, 0]
        np.float64(0.1)
        """
        values = {}
        entries = {}
        for name, value in changes.items():
            if name in self.__dataclass_fields__:
                values[name] = value
            elif split_element(name).path == _MATRIX:
                entries[name] = value
            else:
                matrix_entries = [f"{_MATRIX}_{entry}" for entry in MATRIX_ENTRIES]
                raise checks.unknown_name_error(name, [*self.__dataclass_fields__, *matrix_entries])
        if "clustering" in values:
            values.setdefault("kappa", None)
        if "neuron_type" in values:
            values.setdefault("synapse", None)
        if "fixed_indegree" in values:
            values.setdefault("connection_rule", None)
        if "connection_rule" in values:
            is_fixed = values["connection_rule"] == "fixed_indegree"
            values.setdefault("fixed_indegree", is_fixed)
        net = dataclasses.replace(self, **values)
        return read_parameters(net).replace(entries).build() if entries else net

    def as_arrays(self) -> Self:
        """Return the same network with JAX arrays in place of Python's and NumPy's numbers.

        For tools that differentiate only JAX arrays, such as `equinox.filter_grad`.

        >>> NetworkParams().as_arrays().baseline_conn_prob.shape
        (2, 2)
        """
        values = {name: jnp.asarray(getattr(self, name)) for name in NUMBER_FIELDS}
        return dataclasses.replace(self, **values)

    def weights(self) -> Array:
        """Return the weights of single synapses: `rbn_jax.synaptic_weights` of this network.

        They are in pA, and in mV for "delta" synapses.

        >>> print(np.asarray(NetworkParams().weights(), float).round(4))
        [[ 0.2245 -0.431 ]
         [ 0.1789 -0.7155]]
        """
        # by the public name, which is imported on first use: the formulas take a NetworkParams,
        # so their module imports this one
        from rbn_jax import synaptic_weights

        return synaptic_weights(self)

    def check(self) -> Self:
        """Return self if every value is valid.

        Leaves may be arrays that broadcast; then every element is checked.

        Raises:
            ValueError: names every bad field, its value and what is allowed.

        >>> NetworkParams(tau_E=-1.0, gei=float("nan")).check()
        Traceback (most recent call last):
        ...
        ValueError: tau_E=-1 ms: must be a finite number > 0; gei=nan: must be a finite ...
        """
        messages = [*check_values(vars(self)), *_check_clusters(self), *self._check_choices()]
        checks.raise_if_any(messages, "Correct the values named.")
        return self

    def _check_choices(self) -> list[str]:
        """Return a message for each choice that is not among the valid ones."""
        messages = []
        for name, options in _CHOICES.items():
            value = getattr(self, name)
            if options and not any(_is_same(value, option) for option in options):
                messages.append(f"{name}={value!r}: must be {' or '.join(map(repr, options))}")
        if not (_is_same(self.V_m, "rand") or checks.is_number(self.V_m)):
            messages.append(f"V_m={self.V_m!r}: must be 'rand' or a finite number")
        if self.fixed_indegree is True and self.connection_rule != "fixed_indegree":
            messages.append(
                f"fixed_indegree=True and connection_rule={self.connection_rule!r}: must agree; "
                "give one of them"
            )
        if not isinstance(self.neuron_type, str):
            messages.append(f"neuron_type={self.neuron_type!r}: must be the name of a model")
        elif message := synapse_message(self.synapse, self.neuron_type):
            messages.append(message)
        return messages

    def to_dict(self) -> dict[str, Any]:
        """Return NEST's `net_dict` with these values.

        Numbers are floats, numbers of neurons and clusters are integers, and arrays are NumPy
        arrays, also where the field holds a JAX array. `kappa`, `connection_rule` and `synapse`,
        which NEST's example does not know, are left out where `clustering`, `fixed_indegree` and
        `neuron_type` say the same.

        >>> NetworkParams().to_dict()["N_E"]
        4000
        """
        # not vars(self), whose order is another after JAX has rebuilt the object
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        for name in NUMBER_FIELDS:
            if isinstance(values[name], Tracer):
                continue
            array = np.array(values[name])
            if array.ndim:
                values[name] = array
            elif name in _COUNTS and array == np.floor(array):
                values[name] = int(array)
            else:
                values[name] = float(array)
        for name in self._derived_names():
            del values[name]
        return values

    def _derived_names(self) -> list[str]:
        """Return which of kappa, connection_rule and synapse are what their default is."""
        names = []
        is_traced = isinstance(self.kappa, Tracer)
        if not is_traced and np.array_equal(np.asarray(self.kappa), self._kappa_of_clustering()):
            names.append("kappa")
        if self.connection_rule == self._rule_of_fixed_indegree():
            names.append("connection_rule")
        if self.synapse == synapse_of_neuron(self.neuron_type):
            names.append("synapse")
        return names

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any], *, unknown: Unknown = "raise") -> Self:
        """Return parameters from a dictionary of a published program; other fields are defaults.

        The programs are NEST's example with its `net_dict`, the code of Rostami et al. (2024), and
        EI-Clustering (Schmitt, Müller & Nawrot 2026). `docs/nest.md` has the table of the names
        that differ. Keys of the simulation, the stimulus and the analysis are ignored.

        Args:
            mapping: the dictionary, or a part of it.
            unknown: "raise" an error for a key that is not known, or "ignore" it.

        Raises:
            ValueError: an unknown key (similar ones are listed), or a value that is not a number
                or outside its domain; two keys with different values for one field; a key that
                changes the network in a way that no field represents, as given weights `js`.

        >>> NetworkParams.from_mapping({"tau_E": 15, "simtime": 10000.0})
        NetworkParams(tau_E=15.0)
        >>> NetworkParams.from_mapping({"ge": 1.5, "jplus": [[5.0, 4.0], [4.0, 4.0]], "Q": 50})
        NetworkParams(n_clusters=50.0, gei=1.5, rj=0.75, rep=5.0)
        """
        given, currents = read_dictionary(mapping, cls.__dataclass_fields__, unknown)
        values = {}
        for name, value in given.items():
            if name == _MATRIX:
                values[name] = checks.to_matrix(name, value)
            elif name in NUMBER_FIELDS:
                values[name] = checks.to_number(name, value)
            else:
                values[name] = value
        net = cls(**values).check()
        return net._replace_currents(currents) if currents else net

    def _replace_currents(self, currents: Mapping[str, Numbers]) -> Self:
        """Return a copy with background currents that are given in pA."""
        # not by `rheobase_current`, which computes in JAX's default precision
        rheobases = {
            "I_th_E": self.C_m * (self.V_th_E - self.E_L) / self.tau_E,
            "I_th_I": self.C_m * (self.V_th_I - self.E_L) / self.tau_I,
        }
        changes = {name: current / rheobases[name] for name, current in currents.items()}
        return self.replace(**changes).check()

    @classmethod
    def from_toml(cls, path: str | os.PathLike[str], *, unknown: Unknown = "raise") -> Self:
        """Read parameters from a TOML file of `name = value` lines; the rest are defaults.

        Args:
            path: of the file; it has the names that `from_mapping` reads.
            unknown: "raise" an error for a name that is not known, or "ignore" it.

        Raises:
            ValueError: the file is not TOML, or as in `from_mapping`; the message has its name.
            OSError: the file cannot be read.
        """
        try:
            with open(path, "rb") as file:
                return cls.from_mapping(tomllib.load(file), unknown=unknown)
        except ValueError as error:
            raise ValueError(f"{os.fspath(path)}: {error}") from error

    def to_toml(self, path: str | os.PathLike[str] | None = None) -> str:
        """Return the parameters as TOML, exact to the last digit; also write them to `path`."""
        text = ""
        for name, value in to_plain(self.check()).items():
            text += f"{name} = {json.dumps(value, ensure_ascii=False)}\n"
        if path is not None:
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
        return text

    @classmethod
    def preset(cls, name: str) -> Self:
        """Return a published network by name; `PRESETS` has the names and their sources.

        >>> NetworkParams.preset("schmitt2023").tau_syn_ex
        3.0
        """
        checks.check_names([name], PRESETS, "preset")
        return cls.from_mapping(PRESETS[name][1])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, NetworkParams):
            return NotImplemented
        return not _differences(self, other)

    def __repr__(self) -> str:
        names = set(_differences(self, type(self)()))
        # these have no default of their own, but follow other fields
        names |= {"kappa", "connection_rule", "synapse"}
        names -= set(self._derived_names())
        fields = [name for name in self.__dataclass_fields__ if name in names]
        changed = [f"{name}={getattr(self, name)!r}" for name in fields]
        return f"{type(self).__name__}({', '.join(changed)})"


NUMBER_FIELDS = number_fields(NetworkParams)
"""Unit and domain of every number, by name."""

_CHOICES = {
    field.name: field.metadata["options"]
    for field in dataclasses.fields(NetworkParams)
    if "options" in field.metadata
}
# `__new__` takes any name, so that it can refuse unknown ones: help and editors show the fields
NetworkParams.__signature__ = inspect.Signature(  # pyright: ignore[reportAttributeAccessIssue]
    list(inspect.signature(NetworkParams.__init__).parameters.values())[1:]
)


_TREE_KEYS = [jax.tree_util.GetAttrKey(name) for name in NUMBER_FIELDS]


def _flatten(net: NetworkParams) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    numbers = [getattr(net, name) for name in NUMBER_FIELDS]
    choices = tuple(getattr(net, name) for name in _CHOICES)
    return tuple(zip(_TREE_KEYS, numbers, strict=True)), choices


def _unflatten(choices: tuple[Any, ...], numbers: Iterable[Any]) -> NetworkParams:
    # not by the constructor, which would change leaves that are no numbers: JAX also makes trees
    # of the same structure with axes, shardings or booleans as leaves
    net = object.__new__(NetworkParams)
    vars(net).update(zip(NUMBER_FIELDS, numbers, strict=True))
    vars(net).update(zip(_CHOICES, choices, strict=True))
    return net


jax.tree_util.register_pytree_with_keys(NetworkParams, _flatten, _unflatten)

PRESETS: dict[str, tuple[str, dict[str, Any]]] = {
    "nest": ("NEST 3.10, pynest/examples/EI_clustered_network/network_params.py", {}),
    "schmitt2023": (
        "Schmitt, Rostami & Nawrot (2023), Front. Neuroinform. 17:941696, "
        "doi 10.3389/fninf.2023.941696: the network of its grid search over I_th_E and I_th_I, "
        "which keep their defaults here; from its published code (nawrotlab/SNN_GeNN_Nest, "
        "Source/Gridsearch_NEST/NEST_GridSearch.py)",
        {"N_E": 20000, "N_I": 5000, "tau_syn_ex": 3.0, "tau_syn_in": 2.0, "rep": 2.75, "rj": 0.75},
    ),
    "rostami2024": (
        "Rostami, Rost, Schmitt, van Albada, Riehle & Nawrot (2024), Nat. Commun. 15, "
        "doi 10.1038/s41467-024-49889-4: the E/I clustered network of its Figure 1, whose "
        "parameters but n_clusters and rep are those of Figure 2; from its published code "
        "(nawrotlab/ClusteredNetwork_pub, src/defaultSimulate.py and fig_codes/fig1.py)",
        {
            "V_th_E": 15.0,
            "V_th_I": 15.0,
            "tau_syn_ex": 3.0,
            "tau_syn_in": 2.0,
            "I_th_E": 2.14,
            "I_th_I": 1.26,
            "n_clusters": 50,
            "rep": 11.0,
            "rj": 0.75,
        },
    ),
    "schmitt2026": (
        "Schmitt, Müller & Nawrot (2026), bioRxiv, doi 10.64898/2026.03.16.712138: the default "
        "spiking network of its published code (schmitfe/EI-Clustering, "
        "NEST/EI_clustered_network/network_params.py); its Figure 5 has rep=5 and kappa=0, 0.5, 1",
        {
            "I_th_E": 3.25,
            "I_th_I": 1.82,
            "N_E": 8000,
            "N_I": 2000,
            "baseline_conn_prob": [[0.3, 0.3], [0.3, 0.3]],
            "connection_rule": "pairwise_poisson",
            "kappa": 1.0,
            "rj": 0.78,
            "rep": 4.5,
        },
    ),
}
"""Source, and values that differ from NEST's example, of every preset by name."""


def synapse_of_neuron(neuron_type: object) -> str | None:
    """Return the kind of synapses of a neuron model of NEST; None where it is not known.

    >>> synapse_of_neuron("iaf_psc_alpha_multisynapse")
    'alpha'
    """
    if not isinstance(neuron_type, str):
        return None
    for prefix, synapse in _SYNAPSE_OF_PREFIX.items():
        if neuron_type.startswith(prefix):
            return synapse
    return _SYNAPSE_OF_MODEL.get(neuron_type)


def synapse_message(synapse: object, neuron_type: object = None) -> str | None:
    """Return what is wrong with a kind of synapses; None is that of an unknown `neuron_type`."""
    if any(_is_same(synapse, option) for option in SYNAPSES):
        return None
    valid = " or ".join(map(repr, SYNAPSES))
    if synapse is None and neuron_type is not None:
        known = ", ".join([*_SYNAPSE_OF_PREFIX, *_SYNAPSE_OF_MODEL])
        return (
            f"neuron_type={neuron_type!r}: its synapse is not known; give synapse={valid}, too, or "
            f"one of {known}"
        )
    # not by ==, which an array would compare with each of its elements
    is_beta = _is_same(synapse, "beta")
    reason = "; there is no tau_rise here, which a beta synapse needs" if is_beta else ""
    return f"synapse={synapse!r}: must be {valid}{reason}"


def check_values(values: Mapping[str, Any]) -> list[str | None]:
    """Return messages on invalid values by name, and on the order of the potentials.

    Only the names in `values` are checked, so a part of a network can be checked. Synaptic time
    constants may be 0 where `values` has the synapse "delta".
    """
    messages = []
    is_delta = values.get("synapse") == "delta"
    if _MATRIX in values:
        messages.append(checks.check_matrix_shape(_MATRIX, values[_MATRIX]))
    for name, field in NUMBER_FIELDS.items():
        if name in values:
            has_effect = not (is_delta and name in SYNAPTIC_TIME_CONSTANTS)
            domain = field.domain if has_effect else NOT_NEGATIVE
            messages.append(checks.check_domain(name, values[name], domain, field.unit))
    for low, high in _ORDERED_POTENTIALS:
        if low in values and high in values:
            messages.append(checks.check_order(low, values[low], high, values[high]))
    return messages


def _check_clusters(net: NetworkParams) -> list[str]:
    """Return messages on clusters that no network has, for values that are in their own domains.

    The factors of a connection must be 0..n_clusters. At either end one of its two factors is 0,
    whose power kappa has no derivative where 0 < kappa < 1.
    """
    values = (net.n_clusters, net.rep, net.rj, net.kappa)
    if any(isinstance(value, Tracer) for value in values):
        return []
    try:
        n_clusters, rep, rj, kappa = np.broadcast_arrays(*map(checks.to_numpy, values))
    except ValueError:  # shapes that do not broadcast are found where they are used
        return []
    if any(array.dtype.kind not in "iuf" for array in (n_clusters, rep, rj, kappa)):
        return []
    factors = {"rep": rep, "1 + (rep - 1) rj": 1 + (rep - 1) * rj}
    messages = []
    for name, factor in factors.items():
        # one cluster is no clustering, whatever the factors are
        outside = (n_clusters > 1) & ~((factor >= 0) & (factor <= n_clusters))
        at_end = (n_clusters > 1) & ((factor == 0) | (factor == n_clusters))
        at_end &= (kappa > 0) & (kappa < 1)
        for bad, ends in ((outside, ""), (at_end, ", both excluded where 0 < kappa < 1")):
            if bad.any():
                messages.append(
                    f"{name}={factor[bad][0]:g}: must be from 0 to n_clusters="
                    f"{n_clusters[bad][0]:g}{ends}"
                )
    return messages


def check_single(net: NetworkParams) -> None:
    """Raise a ValueError that names a number that is an array of a batch."""
    for name, field in NUMBER_FIELDS.items():
        shape = np.shape(getattr(net, name))
        if len(shape) > (field.ndim or 0):
            raise ValueError(f"{name} has the shape {shape}: must be one network")


def population_limits(net: NetworkParams, first_id: int = 0) -> dict[str, tuple[int, int]]:
    """Return (first ID, last ID + 1) of the neurons of E and of I; those of E come first.

    Raises:
        ValueError: N_E or N_I is no whole number, as in a batch of networks.

    >>> population_limits(NetworkParams(N_E=8, N_I=2), first_id=1)
    {'E': (1, 9), 'I': (9, 11)}
    """
    n_E, n_I = (_to_count(net, name) for name in ("N_E", "N_I"))
    return {"E": (first_id, first_id + n_E), "I": (first_id + n_E, first_id + n_E + n_I)}


def cluster_sizes(net: NetworkParams) -> dict[str, int]:
    """Return the number of neurons in one cluster of E and in one of I.

    Raises:
        ValueError: a number of neurons is no multiple of the number of clusters; one of the three
            is no whole number, as in a batch of networks.

    >>> cluster_sizes(NetworkParams(N_E=8, N_I=2, n_clusters=2))
    {'E': 4, 'I': 1}
    """
    n_clusters, n_E, n_I = (_to_count(net, name) for name in ("n_clusters", "N_E", "N_I"))
    if n_E % n_clusters or n_I % n_clusters:
        raise ValueError(
            f"N_E={n_E}, N_I={n_I}: must be multiples of n_clusters={n_clusters}; give groups for "
            "other clusters"
        )
    return {"E": n_E // n_clusters, "I": n_I // n_clusters}


def _to_count(net: NetworkParams, name: str) -> int:
    value = getattr(net, name)
    if not checks.is_number(value) or value % 1 or value < 1:
        raise ValueError(f"{name}={value!r}: must be a whole number >= 1 of one network")
    return int(value)


def _to_choice(value: object) -> object:
    """Return NumPy's scalars and arrays of no axes as Python's values, bytes as text."""
    if isinstance(value, np.generic | np.ndarray | Array) and np.ndim(value) == 0:
        value = value.item()
    return value.decode() if isinstance(value, bytes) else value


def _is_same(value: object, option: object) -> bool:
    """Return whether two values are equal and of one type: 1.0 is not True."""
    return type(value) is type(option) and value == option


def _differences(net: NetworkParams, other: NetworkParams) -> list[str]:
    """Return the names of the fields that differ; a tracer differs from all but itself."""
    names = []
    for name in net.__dataclass_fields__:
        value, other_value = getattr(net, name), getattr(other, name)
        if isinstance(value, Tracer) or isinstance(other_value, Tracer):
            is_equal = value is other_value
        else:
            is_equal = np.array_equal(value, other_value)
        if not is_equal:
            names.append(name)
    return names
