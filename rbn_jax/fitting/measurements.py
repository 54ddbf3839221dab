"""Read and check what was measured: targets, their standard deviations, and their rows."""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from rbn_jax.fitting.objective import Arrays, Dtype, FittedFunction, Objective
from rbn_jax.parameters import checks, domains
from rbn_jax.parameters.access import Parameters
from rbn_jax.parameters.labels import Variable, explain_trace_errors, label_result, record_labels
from rbn_jax.parameters.results import read_arrays


class RowLabels(NamedTuple):
    """The name of the axis that counts rows, and all coordinates along it by name."""

    dim: str
    coords: Mapping[str, Any]

    @property
    def names(self) -> np.ndarray:
        """The label of each row."""
        return np.asarray(self.coords[self.dim])

    def select(self, numbers: np.ndarray) -> "RowLabels":
        """Return the labels of some rows."""
        return RowLabels(self.dim, {name: coord[numbers] for name, coord in self.coords.items()})


class Measurements(NamedTuple):
    """What a fit is compared with.

    target: by name of what fn returns, 0 where not measured; those of a loss keep their NaN
    weight: 1 / sigma by name, 0 where not measured
    n_rows: None for one fit
    labels: of the rows
    """

    target: Arrays
    weight: Arrays
    n_rows: int | None
    labels: RowLabels


def read_measurements(
    fn: FittedFunction,
    parameters: Parameters,
    target: object,
    sigma: object,
    rows: bool | None,
    has_loss: bool,
    dtype: Dtype,
) -> Measurements:
    """Read and check targets and sigmas.

    Args:
        fn: the function; its result is traced, not computed.
        parameters: the parameters of fn.
        target, sigma, rows: as `fit` takes them.
        has_loss: whether the user's loss is minimised, which takes the target with its NaN.
        dtype: of the arrays.

    Raises:
        ValueError: a target of another shape, nothing measured, or a bad sigma.
    """
    with explain_trace_errors(fn), record_labels():
        template = _labelled_result.eval_shape(fn, parameters)
    targets = read_arrays(target, template, "target")
    n_rows = _count_rows(targets, template, rows)
    labels = _row_labels(target, template, n_rows or 1)
    sigmas = _sigmas(sigma, targets, template, labels.dim)
    weights = {}
    for name, array in targets.items():
        array = array.astype(dtype)
        if np.isinf(array).any():
            raise ValueError(f"the target {name} is infinite: must be finite, or NaN if not known")
        measured = np.isfinite(array) & np.isfinite(sigmas[name])
        weights[name] = np.where(measured, 1 / sigmas[name], 0).astype(dtype)
        targets[name] = array if has_loss else np.where(measured, array, 0)
    if not any((weight > 0).any() for weight in weights.values()):
        raise ValueError("the target is NaN everywhere: nothing was measured")
    return Measurements(targets, weights, n_rows, labels)


# compiled only so that JAX keeps what it has traced
@functools.partial(jax.jit, static_argnums=0)
def _labelled_result(fn: FittedFunction, parameters: Parameters) -> dict[str, Variable]:
    return label_result(fn, fn(parameters.build()))


def count_data(objective: Objective) -> np.ndarray:
    """Return the numbers measured in each row (rows,), and priors; 0 if none was measured."""
    counts = 0
    for weight in objective.weight.values():
        counts += np.count_nonzero(weight, axis=tuple(range(1, weight.ndim)))
    return np.where(counts > 0, counts + len(objective.priors), 0)


def _row_labels(target: Any, template: Mapping[str, Variable], n_rows: int) -> RowLabels:
    """Return the labels of the rows, those of an xarray or a pandas object where there is one."""
    dims_of_result = {dim for variable in template.values() for dim in variable.dims}
    dim, coords = "row", {}
    for array in target.values() if isinstance(target, Mapping) else (target,):
        own_dims = [name for name in getattr(array, "dims", ()) if name not in dims_of_result]
        if own_dims:
            dim = str(own_dims[0])
            coords |= {key: coord for key, coord in array.coords.items() if coord.dims == (dim,)}
        if hasattr(array, "iloc"):
            dim = str(array.index.name or dim)
            coords[dim] = np.asarray(array.index)
    coords.setdefault(dim, np.arange(n_rows))
    return RowLabels(dim, coords)


def _count_rows(targets: Arrays, template: Mapping[str, Variable], rows: bool | None) -> int | None:
    """Return the length of the additional first axis; None if there is none."""
    lengths: set[int | None] = set()
    for name, array in targets.items():
        shape = template[name].data.shape
        if array.shape == shape:
            lengths.add(None)
        elif array.shape and array.shape[1:] == shape and len(array):
            lengths.add(len(array))
        else:
            raise ValueError(
                f"the target {name} has the shape {array.shape}: fn returns {shape}; for many "
                "fits at once, one more axis in front"
            )
    if len(lengths) > 1:
        raise ValueError("the targets must have the same number of rows, or all of them none")
    n_rows = lengths.pop()
    if rows is True and n_rows is None:
        raise ValueError(
            "rows=True: the target has the shape of one result of fn: must have one more axis in "
            "front, which counts the rows"
        )
    if rows is False and n_rows is not None:
        raise ValueError(
            f"rows=False: the target has {n_rows} rows: must have the shape of one result of fn"
        )
    return n_rows


def _sigmas(sigma: Any, targets: Arrays, template: Mapping[str, Variable], row_dim: str) -> Arrays:
    """Return the standard deviations of each target, broadcast to its shape."""
    if sigma is None:
        sigma = 1.0
    if isinstance(sigma, Mapping) or np.ndim(sigma) > 0:
        sigma_by_name = read_arrays(sigma, template, "sigma", row_dim)
    else:
        sigma_by_name = dict.fromkeys(template, sigma)
    sigmas = {}
    for name, target in targets.items():
        if name not in sigma_by_name:
            raise ValueError(f"sigma lacks {name}, which the target has")
        given: Any = sigma_by_name[name]
        # an infinite sigma leaves the datum out, as NaN does
        is_array = isinstance(given, np.ndarray)
        checked = np.where(np.isfinite(given) | (given < 0), given, 1) if is_array else given
        message = checks.check_domain(f"sigma of {name}", checked, domains.POSITIVE)
        checks.raise_if_any([message], "It is a standard deviation of the target.")
        try:
            sigmas[name] = np.broadcast_to(np.asarray(given, float), target.shape)
        except ValueError:
            raise ValueError(
                f"sigma of {name} has the shape {np.shape(given)}: must broadcast to {target.shape}"
            ) from None
    return sigmas
