"""The command `python -m benchmarks`: its options, and what it prints and writes."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from benchmarks import table
from benchmarks.measurement import measure_workloads, select_workloads
from rbn_jax.cli.app import new_app, run_app
from rbn_jax.cli.options import AsJson

RESULTS_FOLDER = Path(__file__).parent / "results"

# Two runs on one machine differ by less than 30 %, so a smaller ratio is a real loss of speed.
LOWEST_RATIO_SHARE = 0.7


def bench(
    only: Annotated[
        list[str] | None,
        typer.Option("--only", help="Start of the names of workloads; may be given several times."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="Folder for bench.json, bench.md and the figures.  [default: benchmarks/results, "
            "but nothing is written with --only]",
        ),
    ] = None,
    guard: Annotated[
        Path | None,
        typer.Option("--guard", help="bench.json of an earlier run: fail where a ratio fell."),
    ] = None,
    memory: Annotated[
        bool,
        typer.Option(
            "--memory/--no-memory", help="Measure memory, in one more process per implementation."
        ),
    ] = True,
    list_workloads: Annotated[
        bool, typer.Option("--list", help="Print the names of the workloads and exit.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Measure rbn_jax against NumPy, numba, C and SciPy on this machine, and print one table.

    All workloads together take about half an hour.

    Example: python -m benchmarks --only value-4e5 --only jacobian --no-memory
    """
    selected = select_workloads(only)
    if list_workloads:
        print("\n".join(selected))
        return
    earlier_ratios = _read_ratios(guard, selected) if guard is not None else {}
    if out is None and only is None:
        out = RESULTS_FOLDER
    if out is not None:
        # a folder that cannot be made is reported before half an hour of measuring
        out.mkdir(parents=True, exist_ok=True)
    results = measure_workloads(only, with_memory=memory, report=_print_to_stderr)
    print(json.dumps(results) if as_json else table.markdown(results))
    if out is not None:
        files = table.write(results, out)
        _print_to_stderr(f"wrote {', '.join(map(str, files))}")
    losses = table.find_losses(table.ratios(results), earlier_ratios, LOWEST_RATIO_SHARE)
    if losses:
        raise RuntimeError(f"slower, relative to the others, than in {guard}: {'; '.join(losses)}")
    if results["failed"]:
        raise RuntimeError(f"failed: {', '.join(results['failed'])}; the table gives the reasons")


def run(arguments: list[str]) -> int:
    """Run the command; return 0, or 2 after one line on stderr for bad input."""
    app = new_app("Benchmarks of rbn_jax.")
    app.command()(bench)
    # run_app shows the help if there are no arguments; here, no arguments mean: measure everything
    return run_app(app, arguments or ["--out", str(RESULTS_FOLDER)], "benchmarks")


def _read_ratios(path: Path, selected: list[str]) -> dict[table.RatioKey, float]:
    """Read the ratios of an earlier run, of which at least one must be measured again."""
    try:
        ratios = table.ratios(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"--guard {path}: is no bench.json ({error!r})") from None
    if not any(key.workload in selected for key in ratios):
        raise ValueError(f"--guard {path}: has none of the workloads that would be measured")
    return ratios


def _print_to_stderr(line: str) -> None:
    print(line, file=sys.stderr)
