"""The programs that make the committed tables make them again."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from rbn_jax.numerics import coefficients

TOOLS = Path(__file__).parents[1] / "tools"


def load_program(name):
    """Import a program, which is in no package, as a module."""
    spec = importlib.util.spec_from_file_location(f"tools_{name}", TOOLS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def coefficients_program():
    return load_program("coefficients")


@pytest.fixture(scope="module")
def computed_text(coefficients_program):
    """The module of coefficients as the program would write it."""
    return coefficients_program.module_text()


@pytest.fixture(scope="module")
def table_program():
    return load_program("transfer_table")


def test_coefficients_are_exactly_those_that_the_program_makes(coefficients_program, computed_text):
    assert Path(coefficients.__file__).samefile(coefficients_program.MODULE)
    assert coefficients_program.MODULE.read_text("utf-8") == computed_text
    computed = {}
    exec(computed_text, computed)
    names = [name for name in vars(coefficients) if name.isupper()]
    assert len(names) == 10
    for name in names:
        assert getattr(coefficients, name) == computed[name], name


def test_coefficients_program_writes_the_module_and_detects_a_changed_digit(
    coefficients_program, computed_text, tmp_path, monkeypatch
):
    module = tmp_path / "coefficients.py"
    monkeypatch.setattr(coefficients_program, "MODULE", module)
    monkeypatch.setattr(coefficients_program, "module_text", lambda: computed_text)
    monkeypatch.setattr(sys, "argv", ["coefficients.py"])
    coefficients_program.main()
    assert module.read_text("utf-8") == computed_text
    monkeypatch.setattr(sys, "argv", ["coefficients.py", "check"])
    coefficients_program.main()
    changed = computed_text.replace("0.08333333333334501", "0.08333333333334502")
    assert changed != computed_text
    module.write_text(changed, "utf-8")
    with pytest.raises(SystemExit, match="differs"):
        coefficients_program.main()


def test_transfer_table_has_one_row_for_each_of_its_orders(table_program):
    text = table_program.TABLE.read_text("utf-8")
    rows = np.loadtxt(table_program.TABLE)
    assert [tuple(row) for row in rows[:, :4].astype(int)] == list(table_program.ORDERS)
    assert table_program.table_text(table_program.read_coefficients()) == text


# (Y, H, k) at low and high noise, fast and slow synapses
CASES = [(0.5, 3.0, 0.5), (-3.0, 1.0, 0.2), (1.5, 8.0, 1.0)]


def test_solved_cases_agree_with_the_transfer_table(table_program):
    """Within the bound of the program's check, which a table with a wrong number exceeds."""
    results = [table_program.solve_case(case) for case in CASES]
    log_times, targets = map(np.array, zip(*results, strict=True))
    assert np.all(log_times <= table_program.CHECKED_LOG_T)
    numbers = table_program.read_coefficients()
    errors = table_program.table_errors(CASES, targets, numbers)
    assert np.all(np.abs(errors) <= table_program.LARGEST_ERROR)
    numbers[0] += 0.05
    errors = table_program.table_errors(CASES, targets, numbers)
    assert np.any(np.abs(errors) > table_program.LARGEST_ERROR)


def test_fit_to_values_of_the_transfer_table_gives_its_text_again(table_program):
    points = table_program.fitted_points()
    assert len(points) == 784
    numbers = table_program.read_coefficients()
    targets = table_program.polynomials(points) @ numbers
    # as different as those of the cases are
    log_times = np.linspace(-2, 20, targets.size).reshape(targets.shape)
    fitted = table_program.fit_coefficients(points, log_times, targets)
    assert table_program.table_text(fitted) == table_program.TABLE.read_text("utf-8")
