"""What is minimised: weighted residuals of a function's result, or a loss of the user's own."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rbn_jax.fitting.free_parameters import Coordinate
from rbn_jax.parameters import checks
from rbn_jax.parameters.access import Parameters
from rbn_jax.parameters.labels import Variable, explain_trace_errors, label_result

ROBUST = ("linear", "soft_l1", "huber")


@dataclasses.dataclass(frozen=True)
class Problem:
    """What of a fit is static: functions, names and choices; hashable, for jit."""

    fn: Callable[[Any], Any]
    names: tuple[str, ...]
    ties: tuple[tuple[str, Callable[[Mapping[str, Any]], Any]], ...]
    priors: tuple[tuple[str, float, float], ...]
    robust: str
    loss: Callable[[Any, Any], Any] | None
    dtype: str

    def values(self, params: Parameters, x: Any) -> dict[str, Any]:
        """The free parameters by name, with those that follow them, or others of params."""
        found = dict(zip(self.names, x, strict=True))
        known = dict(found)
        if self.ties:
            elements = {name: params.read(params.locate(name)) for name in params.names()}
            known = params.numbers | elements | found
        for name, tie in self.ties:
            found[name] = known[name] = tie(known)
        return found

    def predict(self, params: Parameters, x: Any) -> dict[str, Any]:
        """What fn returns, by name."""
        result = self.fn(params.replace(self.values(params, x)).build())
        return {name: v.data for name, v in label_result(self.fn, result).items()}

    def residuals(self, data: "Data", x: Any) -> jax.Array:
        """(prediction - target) / sigma, 0 where nothing was measured, and the priors'.

        A robust loss rho is written into them: r^2 becomes rho(r^2).
        """
        found = self.predict(data.params, x)
        parts = [
            jnp.where(weight > 0, weight * (found[name] - data.target[name]), 0).ravel()
            for name, weight in data.weight.items()
        ]
        whole = dict(zip(self.names, x, strict=True))
        own = [jnp.reshape((whole[name] - mean) / sd, 1) for name, mean, sd in self.priors]
        return jnp.concatenate([_robust(self.robust, jnp.concatenate(parts)), *own])

    def cost(self, data: "Data", x: Any) -> jax.Array:
        """Half the sum of squares, or the user's loss and the priors' part."""
        if self.loss is None:
            r = self.residuals(data, x)
            return 0.5 * (r @ r)
        found, target = self.predict(data.params, x), data.target
        if len(found) == 1:
            (found,), (target,) = found.values(), target.values()
        whole = dict(zip(self.names, x, strict=True))
        own = sum(0.5 * ((whole[name] - mean) / sd) ** 2 for name, mean, sd in self.priors)
        return self.loss(found, target) + own


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Data:
    """What of a fit are numbers, so that other ones compile nothing anew.

    params: the parameters held fixed, and the free ones, which are written over
    coordinates: one for each free parameter
    target, weight: by name, with 1/sigma, 0 where not measured
    """

    params: Parameters
    coordinates: tuple[Coordinate, ...]
    target: dict[str, Any]
    weight: dict[str, Any]

    def to_user(self, u: Any) -> Any:
        """The parameters at coordinates u, (..., k)."""
        return jnp.stack([c.to_user(u[..., i]) for i, c in enumerate(self.coordinates)], -1)

    def to_target(self, target: dict[str, Any]) -> "Data":
        """The same with another target."""
        return dataclasses.replace(self, target=target)

    def rows(self, which: Any) -> "Data":
        """Some rows of targets that have a leading axis; None makes one of a single target."""
        target, weight = (
            {name: x[which] for name, x in part.items()} for part in (self.target, self.weight)
        )
        return dataclasses.replace(self, target=target, weight=weight)


def _robust(kind: str, r: jax.Array) -> jax.Array:
    """r' with r'^2 = rho(r^2), of the sign of r."""
    if kind == "soft_l1":  # rho = 2 (sqrt(1 + r^2) - 1)
        return r * jnp.sqrt(2 / (1 + jnp.sqrt(1 + r * r)))
    if kind == "huber":  # rho = r^2 up to 1, then 2 |r| - 1
        far = jnp.abs(r) > 1
        beyond = jnp.sqrt(2 * jnp.where(far, jnp.abs(r), 1) - 1)
        return jnp.where(far, jnp.sign(r) * beyond, r)
    return r


def read_data(
    fn: Callable[[Any], Any],
    params: Parameters,
    target: Any,
    sigma: Any,
    own_loss: bool,
    dtype: str,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], int | None]:
    """Targets, 1/sigma, and the number of rows where the target has one more axis in front.

    Raises:
        ValueError: a target of another shape, nothing measured, or a bad sigma.
    """
    with explain_trace_errors(fn):
        template = jax.eval_shape(lambda p: label_result(fn, fn(p.build())), params)
    shapes = {name: tuple(v.data.shape) for name, v in template.items()}
    targets = _by_name(target, template, "target")
    rows = _rows(targets, shapes)
    lead = () if rows is None else (rows,)
    arrays = {name: np.asarray(x, dtype) for name, x in targets.items()}
    sigmas = _sigmas(sigma, targets, template, lead)
    weight, clean = {}, {}
    for name, x in arrays.items():
        measured = np.isfinite(x)
        if np.isinf(x).any():
            raise ValueError(f"the target {name} is infinite: must be finite, or NaN if not known")
        weight[name] = np.where(measured, 1 / sigmas[name], 0).astype(dtype)
        clean[name] = x if own_loss else np.where(measured, x, 0).astype(dtype)
    if not any((w > 0).any() for w in weight.values()):
        raise ValueError("the target is NaN everywhere: nothing was measured")
    return clean, weight, rows


def _by_name(given: Any, template: Mapping[str, Variable], what: str) -> dict[str, np.ndarray]:
    if hasattr(given, "data_vars"):
        given = {str(name): x for name, x in given.data_vars.items()}
    if not isinstance(given, Mapping):
        if len(template) > 1:
            raise ValueError(f"{what}: fn returns {', '.join(template)}: give a mapping of these")
        given = {next(iter(template)): given}
    found = {}
    for name, x in given.items():
        if name not in template:
            raise checks.unknown_name_error(str(name), template, f"name in the {what}")
        x = _aligned(x, template[name], f"{what} {name}")
        try:
            found[name] = np.asarray(x, float)
        except (TypeError, ValueError):
            raise ValueError(f"the {what} {name} is no array of numbers: {x!r}") from None
    if not found:
        raise ValueError(f"{what}={given!r}: must hold {', '.join(template)}")
    return found


def _aligned(x: Any, like: Variable, what: str) -> Any:
    """An xarray object with its dimensions, and what lies along them, in the order of fn's."""
    if not set(like.dims) & set(getattr(x, "dims", ())):
        return x
    x = x.expand_dims([dim for dim in like.dims if dim not in x.dims]).transpose(..., *like.dims)
    for name, dims, values in like.coords:
        if (name,) == dims and name in x.indexes:
            if set(x.indexes[name]) != set(values):
                raise ValueError(
                    f"the {what} has {name} {list(x.indexes[name])}: fn {list(values)}"
                )
            x = x.sel({name: list(values)})
    return x


def _rows(targets: Mapping[str, np.ndarray], shapes: Mapping[str, Any]) -> int | None:
    rows = set()
    for name, x in targets.items():
        if x.shape == shapes[name]:
            rows.add(None)
        elif x.shape[1:] == shapes[name] and x.ndim == len(shapes[name]) + 1 and x.shape[0]:
            rows.add(x.shape[0])
        else:
            raise ValueError(
                f"the target {name} has the shape {x.shape}: fn returns {shapes[name]}; for many "
                "fits at once, one more axis in front"
            )
    if len(rows) > 1:
        raise ValueError(f"the targets have different numbers of rows: {sorted(map(str, rows))}")
    return rows.pop()


def _sigmas(
    sigma: Any, measured: Any, template: Mapping[str, Variable], lead: tuple[int, ...]
) -> dict[str, np.ndarray]:
    if sigma is None or (np.ndim(sigma) == 0 and not isinstance(sigma, Mapping)):
        number = np.asarray(1.0 if sigma is None else sigma)
        given = dict.fromkeys(template, number)
    else:
        given = _by_name(sigma, template, "sigma")
    found = {}
    for name in measured:
        shape = tuple(template[name].data.shape)
        if name not in given:
            raise ValueError(f"sigma lacks {name}, which the target has")
        x = np.asarray(given[name])
        if x.dtype.kind not in "iuf":
            raise ValueError(f"sigma of {name} is {x.tolist()!r}: must be a number > 0")
        bad = x[~(np.isfinite(x) & (x > 0))]
        if bad.size:
            raise ValueError(f"sigma of {name} is {bad[0]:g}: must be > 0 and finite")
        try:
            found[name] = np.broadcast_to(x.astype(float), (*lead, *shape))
        except ValueError:
            raise ValueError(
                f"sigma of {name} has the shape {x.shape}: must broadcast to {(*lead, *shape)}"
            ) from None
    return found


def measured(data: Data) -> int:
    """How many numbers were measured."""
    return int(sum(np.count_nonzero(w) for w in data.weight.values()))
