"""NetworkParams: every parameter of the network under NEST's name, as one pytree."""

import dataclasses
import json
import os
import tomllib
from collections.abc import Mapping
from typing import Any, Self

import jax
import numpy as np
from jax.core import Tracer

from rbn_jax import _fields as f
from rbn_jax._fields import COUNT, NOT_NEGATIVE, POSITIVE, PROBABILITY, REAL

# What else NEST's example merges into the dictionary that it passes round.
_NEST_ONLY = frozenset(
    "warmup simtime dt randseed n_vp stim_clusters stim_amp stim_starts stim_ends "
    "jplus pplus js I_xE I_xI delta rho".split()
)
_COUNTS = ("N_E", "N_I", "n_clusters")
_ADVICE = "Correct the values named."


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class NetworkParams:
    """The parameters of a balanced random network; the defaults are NEST's EI_clustered_network.

    Numbers are leaves of a pytree: each can be an array, an axis of a sweep, a gradient.
    Choices are static. Nothing is checked on construction, where values may be tracers;
    `check` does it, and so does every function that takes parameters from outside.

    Neurons
        E_L, V_r: resting and reset potential [mV]
        V_th_E, V_th_I: thresholds [mV]
        C_m: membrane capacitance [pF]
        tau_E, tau_I: membrane time constants [ms]
        t_ref: refractory period [ms]
        neuron_type: NEST's neuron model
        V_m: initial membrane potential [mV], or "rand"
    Synapses
        tau_syn_ex, tau_syn_in: synaptic time constants [ms]
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
        fixed_indegree: fixed in-degrees instead of independent connections
        n_clusters, rep, rj, clustering: number of clusters, excitatory clustering factor,
            ratio of inhibitory to excitatory clustering, "weight" or "probabilities"

    Source: NEST 3.10, EI_clustered_network/network_params.py, after Rostami et al. (2024),
    doi 10.1038/s41467-024-49889-4.

    >>> NetworkParams(tau_syn_ex=3.0, tau_syn_in=2.0)
    NetworkParams(tau_syn_ex=3.0, tau_syn_in=2.0)
    """

    neuron_type: str = f.choice("iaf_psc_exp")
    E_L: Any = f.number(0.0, "mV", REAL)
    C_m: Any = f.number(1.0, "pF", POSITIVE)
    tau_E: Any = f.number(20.0, "ms", POSITIVE)
    tau_I: Any = f.number(10.0, "ms", POSITIVE)
    t_ref: Any = f.number(5.0, "ms", NOT_NEGATIVE)
    V_th_E: Any = f.number(20.0, "mV", REAL)
    V_th_I: Any = f.number(20.0, "mV", REAL)
    V_r: Any = f.number(0.0, "mV", REAL)
    tau_syn_ex: Any = f.number(5.0, "ms", POSITIVE)
    tau_syn_in: Any = f.number(5.0, "ms", POSITIVE)
    delay: Any = f.number(0.1, "ms", POSITIVE)
    I_th_E: Any = f.number(1.25, "", REAL)
    I_th_I: Any = f.number(0.78, "", REAL)
    delta_I_xE: Any = f.number(0.0, "", NOT_NEGATIVE)
    delta_I_xI: Any = f.number(0.0, "", NOT_NEGATIVE)
    V_m: str | float = f.choice("rand")
    N_E: Any = f.number(4000.0, "", COUNT)
    N_I: Any = f.number(1000.0, "", COUNT)
    n_clusters: Any = f.number(20.0, "", COUNT)
    baseline_conn_prob: Any = dataclasses.field(
        default_factory=lambda: np.array([[0.2, 0.5], [0.5, 0.5]]),
        metadata={"unit": "", "domain": PROBABILITY},
    )
    gei: Any = f.number(1.2, "", NOT_NEGATIVE)
    gie: Any = f.number(1.0, "", NOT_NEGATIVE)
    gii: Any = f.number(1.0, "", NOT_NEGATIVE)
    s: Any = f.number(1.0, "", NOT_NEGATIVE)
    fixed_indegree: bool = f.choice(False, False, True)
    clustering: str = f.choice("weight", "weight", "probabilities")
    rj: Any = f.number(0.82, "", NOT_NEGATIVE)
    rep: Any = f.number(6.0, "", NOT_NEGATIVE)

    def __new__(cls, *args: Any, **values: Any) -> Self:
        """Refuse unknown names with the near ones, where Python would name none."""
        if args:
            raise TypeError("NetworkParams takes name=value; a mapping goes into from_mapping")
        for name in values:
            if name in f.ENTRIES:
                raise TypeError(f"{name} is an entry: NetworkParams().replace({name}=...) sets it")
            if name not in cls.__dataclass_fields__:
                raise TypeError(str(f.unknown_name(name, cls.__dataclass_fields__)))
        return super().__new__(cls)

    def replace(self, **changes: Any) -> Self:
        """A copy with other values, by field name or by an entry of the matrix.

        Raises ValueError for a name that does not exist.

        >>> NetworkParams().replace(gei=1.5, baseline_conn_prob_EE=0.1).baseline_conn_prob[0, 0]
        np.float64(0.1)
        """
        return f.write(self, changes)

    def check(self) -> Self:
        """self, if every value is one that a network can have.

        Leaves may be arrays that broadcast; then every element is checked.

        Raises:
            ValueError: names every bad field, its value and what is allowed.

        >>> NetworkParams(tau_E=-1.0, gei=float("nan")).check()
        Traceback (most recent call last):
        ...
        ValueError: tau_E=-1 ms: must be a finite number > 0; gei=nan: must be a finite ...
        """
        values = {name: getattr(self, name) for name in FIELDS}
        f.raise_all([*complaints(values), *self._choice_complaints()], _ADVICE)
        return self

    def _choice_complaints(self) -> list[str]:
        found = [
            f"{name}={getattr(self, name)!r}: must be {' or '.join(map(repr, allowed))}"
            for name, allowed in _CHOICES.items()
            if allowed and not any(_same(getattr(self, name), value) for value in allowed)
        ]
        if not (_same(self.V_m, "rand") or f.is_real(self.V_m)):
            found.append(f"V_m={self.V_m!r}: must be 'rand' or a finite number")
        if not isinstance(self.neuron_type, str):
            found.append(f"neuron_type={self.neuron_type!r}: must be the name of a model")
        return found

    def to_dict(self) -> dict[str, Any]:
        """NEST's `net_dict` with these values, as NEST takes them.

        Numbers are floats, numbers of neurons integers, arrays NumPy's, also after JAX.

        >>> NetworkParams().to_dict()["N_E"]
        4000
        """
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        for name in FIELDS:
            if isinstance(values[name], Tracer):
                continue
            value = np.array(values[name])
            values[name] = value if value.ndim else float(value)
            if name in _COUNTS and not value.ndim and value == np.floor(value):
                values[name] = int(value)
        return values

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> Self:
        """Parameters from NEST's `net_dict`, or from any part of it; the rest are defaults.

        Keys of NEST's simulation and stimulus dictionaries are passed over.

        Raises:
            ValueError: an unknown key (the near ones are listed), a value that is no number
                or outside its domain.

        >>> NetworkParams.from_mapping({"tau_E": 15, "simtime": 10000.0})
        NetworkParams(tau_E=15.0)
        """
        if not isinstance(mapping, Mapping):
            raise ValueError(f"mapping is a {type(mapping).__name__}: must be a dictionary")
        fields = [field.name for field in dataclasses.fields(cls)]
        values = {}
        for key, value in mapping.items():
            if key in FIELDS:
                values[key] = (f.as_matrix if key == f.MATRIX else f.as_number)(key, value)
            elif key in fields:
                values[key] = value
            elif key not in _NEST_ONLY:
                raise f.unknown_name(str(key), fields)
        return cls(**values).check()

    @classmethod
    def from_toml(cls, path: str | os.PathLike[str]) -> Self:
        """Parameters from a TOML file of `name = value` lines; the rest are defaults.

        Raises:
            ValueError: the file is not TOML, or as in `from_mapping`; the message has its name.
            OSError: the file cannot be read.
        """
        try:
            with open(path, "rb") as file:
                return cls.from_mapping(tomllib.load(file))
        except ValueError as error:
            raise ValueError(f"{os.fspath(path)}: {error}") from error

    def to_toml(self, path: str | os.PathLike[str] | None = None) -> str:
        """The parameters as TOML, written to `path` if one is given; exact to the last digit."""
        lines = (
            f"{name} = {json.dumps(value, ensure_ascii=False)}\n"
            for name, value in f.plain(self.check()).items()
        )
        text = "".join(lines)
        if path is not None:
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
        return text

    @classmethod
    def preset(cls, name: str) -> Self:
        """A published network by name; see `PRESETS` for the names and their sources.

        >>> NetworkParams.preset("schmitt2023").tau_syn_ex
        3.0
        """
        if name not in PRESETS:
            raise f.unknown_name(str(name), PRESETS, "preset")
        return cls.from_mapping(PRESETS[name][1])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, NetworkParams):
            return NotImplemented
        return not _differences(self, other)

    def __repr__(self) -> str:
        changed = (f"{name}={getattr(self, name)!r}" for name in _differences(self, type(self)()))
        return f"{type(self).__name__}({', '.join(changed)})"


FIELDS = {
    field.name: (field.metadata["unit"], field.metadata["domain"])
    for field in dataclasses.fields(NetworkParams)
    if "domain" in field.metadata
}
"""(unit, domain) of every number, by name."""

_CHOICES = {
    field.name: field.metadata["options"]
    for field in dataclasses.fields(NetworkParams)
    if "options" in field.metadata
}

PRESETS: dict[str, tuple[str, dict[str, Any]]] = {
    "nest": ("NEST 3.10, pynest/examples/EI_clustered_network/network_params.py", {}),
    "schmitt2023": (
        "Schmitt, Rostami & Nawrot (2023), Front. Neuroinform. 17:941696, "
        "doi 10.3389/fninf.2023.941696: the network of its grid search over I_th_E and I_th_I, "
        "which keep their defaults here; from its published code (nawrotlab/SNN_GeNN_Nest, "
        "Source/Gridsearch_NEST/NEST_GridSearch.py)",
        {"N_E": 20000, "N_I": 5000, "tau_syn_ex": 3.0, "tau_syn_in": 2.0, "rep": 2.75, "rj": 0.75},
    ),
}
"""(source, what differs from NEST's example) of every preset, by name."""


def complaints(values: Mapping[str, Any]) -> list[str | None]:
    """What is wrong with these values, each alone and the potentials with one another.

    Only names that exist are looked at, so that any part of a network can be checked.
    """
    found = [f.shape_complaint(values[f.MATRIX])] if f.MATRIX in values else []
    for name, (unit, domain) in FIELDS.items():
        if name in values:
            found.append(f.complaint(name, values[name], domain, unit))
    for low, high in (("E_L", "V_th_E"), ("E_L", "V_th_I"), ("V_r", "V_th_E"), ("V_r", "V_th_I")):
        if low in values and high in values:
            found.append(f.order_complaint(low, values[low], high, values[high]))
    return found


def _same(one: Any, other: Any) -> bool:
    """Equality that takes 1.0 for no truth value and an array for no text."""
    return type(one) is type(other) and one == other


def _differences(one: NetworkParams, other: NetworkParams) -> list[str]:
    """The names of the fields in which two networks differ; a tracer differs from all else."""

    def same(x: Any, y: Any) -> bool:
        if isinstance(x, Tracer) or isinstance(y, Tracer):
            return x is y
        return np.array_equal(x, y)

    fields = dataclasses.fields(one)
    return [x.name for x in fields if not same(getattr(one, x.name), getattr(other, x.name))]
