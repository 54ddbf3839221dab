"""Sweeps of ordinary Python functions, as of a simulator: a point is one call in a process."""

import contextlib
import copy
import functools
import hashlib
import inspect
import pickle
import re
import sys
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np

from rbn_jax.parameters.access import Parameters, read_parameters
from rbn_jax.parameters.checks import to_number_array
from rbn_jax.parameters.labels import label_result, record_labels
from rbn_jax.parameters.optional import require
from rbn_jax.sweeps.axes import Axes
from rbn_jax.sweeps.blocks import Blocks, plan_blocks
from rbn_jax.sweeps.evaluator import Program, SweptFunction, Template, TracedEvaluator
from rbn_jax.system.processes import ProcessCrashedError, Processes, shared_processes

Outcome = Template | str
"""fn's variables at a point, or the text of its error."""


class HostFunction(SweptFunction):
    """A Python function, the parameters that are held fixed and axes.

    Every number that it returns becomes float64, or complex128, because a point where it fails
    is NaN.

    blocks: the points, each a block
    outcomes: results, or texts of errors, of points that are computed already, by number
    threads: points that are computed at once
    """

    backend = ("python", "")
    block_name = "point"

    def __init__(
        self,
        fn: Callable[..., Any],
        params: object,
        axes: Axes,
        processes: Processes,
        template: Template | None = None,
    ):
        super().__init__(fn, params, axes, "float64")
        self.pickled = require("cloudpickle", "sweep").dumps((fn, read_parameters(params)))
        self.blocks = plan_blocks(axes.sizes, point_bytes=1, block_size=1)
        self.outcomes: dict[int, Outcome] = {}
        self._processes = processes
        self.threads = processes.count
        self.template = self._find_template() if template is None else template

    def program(self) -> Program:
        """Return a hash of the source of the function and of what functools.partial gives it.

        Not in it are attributes of objects, and what the function calls or reads from elsewhere.
        """
        fn, texts = self.fn, []
        while isinstance(fn, functools.partial):
            # NumPy would leave out the middle of a large array, and digits
            with np.printoptions(threshold=sys.maxsize, floatmode="unique"):
                arguments = repr((fn.args, fn.keywords))
            # the address of an object is another one in each process
            texts.append(re.sub(r" at 0x\w+", "", arguments))
            fn = fn.func
        # built-in and compiled functions have no Python source
        with contextlib.suppress(OSError, TypeError):
            texts.append(inspect.getsource(fn if inspect.isroutine(fn) else type(fn)))
        return Program(hashlib.sha256("\n".join(texts).encode()).hexdigest(), calls_python=False)

    def outcome(self, point: int) -> Outcome:
        """Return what fn gives at a point, in a process of its own."""
        if point not in self.outcomes:
            values = {}
            for (_, names), part in zip(self.axes.layout, self.blocks.region(point), strict=True):
                for name in names:
                    values[name] = self.axes.values[name][part].item()
            # on a worker of a cluster there are none from the start
            processes = vars(self).get("_processes") or shared_processes()
            try:
                return processes.call(_call, self.pickled, values)
            except ProcessCrashedError as error:
                return str(error)
        return self.outcomes[point]

    def _find_template(self) -> Template:
        """Return what fn gives at the first point where it does not fail.

        Raises:
            RuntimeError: it fails at every point.
        """
        for point in range(self.blocks.count):
            outcome = self.outcomes[point] = self.outcome(point)
            if isinstance(outcome, dict):
                return outcome
        raise RuntimeError(f"{self.attrs['function']} failed at every point: {self.outcomes[0]}")


class HostEvaluator:
    """Calls a Python function, at a point at a time."""

    preparation = "starting processes"

    def __init__(self, function: HostFunction, blocks: Blocks):
        self.function = function
        self.blocks = blocks
        self.threads = function.threads

    def fetch(self, block: int) -> tuple[dict[str, np.ndarray], dict[str, str]]:
        """Return fn's variables at a point, NaN if it fails, and problems with their details."""
        template = self.function.template
        outcome = self.function.outcome(block)
        if isinstance(outcome, dict):
            formats, expected = _formats(outcome, template), _formats(template, template)
            if formats != expected:
                outcome = f"it returned {formats}, elsewhere {expected}"
        problems = {}
        if isinstance(outcome, str):
            problems[f"{self.function.attrs['function']} failed"] = outcome
        arrays = {}
        for name, variable in template.items():
            shape, dtype = variable.data.shape, variable.data.dtype
            array = np.full((*self.blocks.shape, *shape), np.nan, dtype)
            if isinstance(outcome, dict):
                array[...] = outcome[name].data
                if np.isnan(array).any():
                    problems[f"{name} is NaN"] = ""
            arrays[name] = array
        return arrays, problems


Evaluator = TracedEvaluator | HostEvaluator
"""What a sweep needs: its function and blocks, `fetch`, and how many threads."""


@functools.lru_cache(maxsize=2)
def _unpickle(pickled: bytes) -> tuple[Callable[..., Any], Parameters]:
    """Return function and parameters; the same ones for all points that a process computes."""
    return pickle.loads(pickled)


def _call(pickled: bytes, values: dict[str, float]) -> Outcome:
    """Call the function at a point."""
    try:
        fn, parameters = _unpickle(pickled)
        with record_labels():
            # a copy, as the function may change arrays
            result = fn(copy.deepcopy(parameters.replace(values).build()))
            to_array = functools.partial(to_number_array, "the result", kinds="biufc")
            variables = label_result(fn, result, to_array)
        outcome = {}
        for name, variable in variables.items():
            dtype = np.complex128 if np.iscomplexobj(variable.data) else np.float64
            outcome[name] = variable.with_data(variable.data.astype(dtype))
        return outcome
    # also SystemExit, and what else would end the process
    except BaseException as error:
        return traceback.format_exception_only(error)[-1].strip()


def _formats(variables: Template, template: Template) -> dict[str, str]:
    """Return dtype, shape and dimensions of each variable as text, and the coordinates.

    A template from a store has no coordinates: then those of the variables are left out, too.
    """
    formats = {}
    for name, variable in variables.items():
        coords = variable.coords if name in template and template[name].coords else ""
        array = f"{variable.data.dtype}{list(variable.data.shape)}"
        formats[name] = " ".join((array, *variable.dims, str(coords))).rstrip()
    return formats
