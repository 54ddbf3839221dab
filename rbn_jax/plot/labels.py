"""Labels of figures: parameters as mathematical symbols, names, units."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rbn_jax.parameters.entries import unit_text

if TYPE_CHECKING:
    import xarray

_SYMBOLS = {
    "E_L": ("E", "L"),
    "C_m": ("C", "m"),
    "tau_E": (r"\tau", "E"),
    "tau_I": (r"\tau", "I"),
    "t_ref": ("t", "ref"),
    "V_th_E": ("V", "th,E"),
    "V_th_I": ("V", "th,I"),
    "V_r": ("V", "r"),
    "V_m": ("V", "m"),
    "tau_syn_ex": (r"\tau", "syn,ex"),
    "tau_syn_in": (r"\tau", "syn,in"),
    "delay": ("d", ""),
    "I_th_E": ("I", "th,E"),
    "I_th_I": ("I", "th,I"),
    "delta_I_xE": (r"\delta I", "xE"),
    "delta_I_xI": (r"\delta I", "xI"),
    "N_E": ("N", "E"),
    "N_I": ("N", "I"),
    "n_clusters": ("n", "clusters"),
    "baseline_conn_prob": ("p", ""),
    "baseline_conn_prob_EE": ("p", "EE"),
    "baseline_conn_prob_EI": ("p", "EI"),
    "baseline_conn_prob_IE": ("p", "IE"),
    "baseline_conn_prob_II": ("p", "II"),
    "gei": ("g", "EI"),
    "gie": ("g", "IE"),
    "gii": ("g", "II"),
    "s": ("s", ""),
    "rj": ("R", "J"),
    "rep": ("R", "E+"),
    "kappa": (r"\kappa", ""),
    # arguments of the formulas of single neurons
    "tau_m": (r"\tau", "m"),
    "tau_syn": (r"\tau", "syn"),
    "tau_rise": (r"\tau", "rise"),
    "c_m": ("C", "m"),
    "e_l": ("E", "L"),
    "v_th": ("V", "th"),
}
"""Symbol and subscript of every number in NetworkParams, and of other names."""

_UNITS_OF_PURE_NUMBERS = {"I_th_E": "rheobase", "I_th_I": "rheobase"}

_ENTRY_SYMBOLS = {"synaptic weight": "J", "firing rate": r"\nu"}
"""Symbol of a quantity, by its long name; its entries are the subscripts."""

_UNIT_LABELS = {"pA*sqrt(N)": r"pA$\,\sqrt{N}$", "mV*sqrt(N)": r"mV$\,\sqrt{N}$"}


def symbol(name: object) -> str:
    r"""Return the symbol of a parameter; an unknown name is returned as it is.

    >>> symbol("tau_syn_ex"), symbol("synapse.tau")
    ('$\\tau_{\\mathrm{syn,ex}}$', 'synapse.tau')
    """
    if str(name) not in _SYMBOLS:
        return plain_label(name)
    letter, subscript = _SYMBOLS[str(name)]
    return _formula(letter, subscript)


def axis_label(coordinates: "Sequence[xarray.DataArray]") -> str:
    """Return the symbols or names of the parameters of an axis, and their unit in brackets."""
    first = coordinates[0]
    unit = unit_label(first)
    if first.attrs.get("units") == "1" and first.name in _UNITS_OF_PURE_NUMBERS:
        unit = f" [{_UNITS_OF_PURE_NUMBERS[str(first.name)]}]"
    return " = ".join(symbol(coordinate.name) for coordinate in coordinates) + unit


def entry_label(array: "xarray.DataArray", entry: str) -> str:
    """Return the title of the map of an entry: "EI", or the symbol of a weight or a rate."""
    letter = _ENTRY_SYMBOLS.get(array.attrs.get("long_name", ""))
    return _formula(letter, entry) if letter and entry.isalnum() else plain_label(entry)


def variable_label(array: "xarray.DataArray") -> str:
    """Return name, selected entry of a matrix and unit, as "synaptic weight EI [pA]"."""
    entry = ""
    for dim in ("target", "source", "population"):
        if dim in array.coords and dim not in array.dims:
            entry += str(array[dim].values)
    return plain_label(f"{quantity_name(array)} {entry}".rstrip()) + unit_label(array)


def quantity_name(array: "xarray.DataArray") -> str:
    """Return the long name of a variable, or else its name."""
    return str(array.attrs.get("long_name", array.name))


def plain_label(name: object) -> str:
    """Return a name as a label; its dollar signs do not begin a formula of Matplotlib's."""
    return str(name).replace("$", r"\$")


def unit_label(array: "xarray.DataArray") -> str:
    """Return the unit in brackets after a space, as Matplotlib has it; "" for a pure number."""
    return bracketed_unit(unit_text(array))


def bracketed_unit(unit: str) -> str:
    """Return a unit in brackets after a space; "" for no unit."""
    return f" [{_UNIT_LABELS.get(unit, plain_label(unit))}]" if unit else ""


def _formula(letter: str, subscript: str) -> str:
    """Return a letter with an upright subscript as a formula."""
    return rf"${letter}_{{\mathrm{{{subscript}}}}}$" if subscript else f"${letter}$"
