"""NIST's nonlinear regression problems (StRD): 27 data sets with certified parameters and errors.

https://www.itl.nist.gov/div898/strd/nls/nls_main.shtml; work of the United States government,
in the public domain. `data/nist_strd.json` holds its numbers.
"""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

_DATA = Path(__file__).parent / "data" / "nist_strd.json"


def _bennett(x, b1, b2, b3):
    return b1 * (b2 + x) ** (-1 / b3)


def _saturation(x, b1, b2):
    return b1 * (1 - jnp.exp(-b2 * x))


def _chwirut(x, b1, b2, b3):
    return jnp.exp(-b1 * x) / (b2 + b3 * x)


def _power(x, b1, b2):
    return b1 * x**b2


def _enso(x, b1, b2, b3, b4, b5, b6, b7, b8, b9):
    year, first, second = (2 * jnp.pi * x / period for period in (12, b4, b7))
    return (
        b1
        + b2 * jnp.cos(year)
        + b3 * jnp.sin(year)
        + b5 * jnp.cos(first)
        + b6 * jnp.sin(first)
        + b8 * jnp.cos(second)
        + b9 * jnp.sin(second)
    )


def _eckerle(x, b1, b2, b3):
    return b1 / b2 * jnp.exp(-0.5 * ((x - b3) / b2) ** 2)


def _gauss(x, b1, b2, b3, b4, b5, b6, b7, b8):
    peaks = b3 * jnp.exp(-(((x - b4) / b5) ** 2)) + b6 * jnp.exp(-(((x - b7) / b8) ** 2))
    return b1 * jnp.exp(-b2 * x) + peaks


def _cubics(x, b1, b2, b3, b4, b5, b6, b7):
    return (b1 + x * (b2 + x * (b3 + x * b4))) / (1 + x * (b5 + x * (b6 + x * b7)))


def _quadratics(x, b1, b2, b3, b4, b5):
    return (b1 + x * (b2 + x * b3)) / (1 + x * (b4 + x * b5))


def _lanczos(x, b1, b2, b3, b4, b5, b6):
    return b1 * jnp.exp(-b2 * x) + b3 * jnp.exp(-b4 * x) + b5 * jnp.exp(-b6 * x)


def _mgh09(x, b1, b2, b3, b4):
    return b1 * (x * x + x * b2) / (x * x + x * b3 + b4)


def _mgh10(x, b1, b2, b3):
    return b1 * jnp.exp(b2 / (x + b3))


def _mgh17(x, b1, b2, b3, b4, b5):
    return b1 + b2 * jnp.exp(-x * b4) + b3 * jnp.exp(-x * b5)


def _misra1b(x, b1, b2):
    return b1 * (1 - (1 + b2 * x / 2) ** -2)


def _misra1c(x, b1, b2):
    return b1 * (1 - (1 + 2 * b2 * x) ** -0.5)


def _misra1d(x, b1, b2):
    return b1 * b2 * x / (1 + b2 * x)


def _nelson(x, b1, b2, b3):
    return b1 - b2 * x[0] * jnp.exp(-b3 * x[1])


def _rat42(x, b1, b2, b3):
    return b1 / (1 + jnp.exp(b2 - b3 * x))


def _rat43(x, b1, b2, b3, b4):
    return b1 / (1 + jnp.exp(b2 - b3 * x)) ** (1 / b4)


def _roszman(x, b1, b2, b3, b4):
    return b1 - b2 * x - jnp.arctan(b3 / (x - b4)) / jnp.pi


MODELS = {
    "Bennett5": _bennett,
    "BoxBOD": _saturation,
    "Chwirut1": _chwirut,
    "Chwirut2": _chwirut,
    "DanWood": _power,
    "ENSO": _enso,
    "Eckerle4": _eckerle,
    "Gauss1": _gauss,
    "Gauss2": _gauss,
    "Gauss3": _gauss,
    "Hahn1": _cubics,
    "Kirby2": _quadratics,
    "Lanczos1": _lanczos,
    "Lanczos2": _lanczos,
    "Lanczos3": _lanczos,
    "MGH09": _mgh09,
    "MGH10": _mgh10,
    "MGH17": _mgh17,
    "Misra1a": _saturation,
    "Misra1b": _misra1b,
    "Misra1c": _misra1c,
    "Misra1d": _misra1d,
    "Nelson": _nelson,
    "Rat42": _rat42,
    "Rat43": _rat43,
    "Roszman1": _roszman,
    "Thurber": _cubics,
}


@dataclasses.dataclass(frozen=True)
class NistProblem:
    """One data set: its model, numbers, two starts, and what NIST certifies.

    model: f(x, b1, b2, ...)
    level: of difficulty, as NIST has it: "Lower", "Average" or "Higher"
    x: (n,), or (2, n) for two predictors; y: (n,)
    starts: two, the second nearer to the optimum
    certified, errors: parameters and their standard errors
    """

    name: str
    model: Callable
    level: str
    x: np.ndarray
    y: np.ndarray
    starts: tuple[dict[str, float], dict[str, float]]
    certified: np.ndarray
    errors: np.ndarray
    sum_of_squares: float

    def predict(self, params):
        """Return the model at the data; JAX code, of a mapping of parameters."""
        return self.model(np.array(self.x), *params.values())


def read_problems() -> list[NistProblem]:
    """Return all problems."""
    problems = []
    for name, numbers in json.loads(_DATA.read_text()).items():
        names = [f"b{i + 1}" for i in range(len(numbers["certified"]))]
        # NIST fits the logarithm of the response in this one
        y = np.log(numbers["y"]) if name == "Nelson" else np.array(numbers["y"])
        problems.append(
            NistProblem(
                name=name,
                model=MODELS[name],
                level=numbers["level"],
                x=np.array(numbers["x"]),
                y=y,
                starts=tuple(dict(zip(names, start, strict=True)) for start in numbers["starts"]),
                certified=np.array(numbers["certified"]),
                errors=np.array(numbers["errors"]),
                sum_of_squares=numbers["sum_of_squares"],
            )
        )
    return problems


def correct_digits(values, certified) -> float:
    """Return the decimal digits of the least accurate value (NIST's log relative error)."""
    error = np.abs(np.asarray(values) - certified) / np.abs(certified)
    return float(np.min(-np.log10(np.maximum(error, 1e-16))))


if __name__ == "__main__":
    with jax.enable_x64(True):
        for problem in read_problems():
            values = dict(zip(problem.starts[0], problem.certified, strict=True))
            residuals = problem.predict(values) - problem.y
            print(problem.name, float(residuals @ residuals) / problem.sum_of_squares - 1)
