"""The program `rbn-jax`: its commands, its exit status, and its one line for bad input."""

import contextlib
import importlib
import sys
import warnings
from collections.abc import Iterator
from typing import Annotated

import typer

import rbn_jax

COMMANDS = {
    "weights": ("weights_command", "Print the 2x2 weights [pA*sqrt(N)] of one network."),
    "sweep": ("sweep_command", "Sweep the weights over axes; write netCDF and a figure."),
    "raster": ("raster_command", "Draw spikes, excitatory neurons black, inhibitory red."),
    "fit": ("fit_command", "Fit parameters to data as a TOML file says, with errors."),
    "rates": ("rates_command", "Print the stationary firing rates of E and I."),
    "calibrate": ("rates_command", "Find two parameters that give wanted firing rates."),
}
"""Module and summary of each command. A module is imported only when its command is called, so
that `rbn-jax --help` and `--version` do not wait for JAX."""


class StoppedError(Exception):
    """Ctrl-C, with what is kept and how to go on; typer drops the words of a KeyboardInterrupt."""


@contextlib.contextmanager
def keep_interrupt_message() -> Iterator[None]:
    """Raise a KeyboardInterrupt as a StoppedError with its message."""
    try:
        yield
    except (KeyboardInterrupt, StoppedError) as error:
        raise StoppedError(str(error)) from None


def run(arguments: list[str] | None = None) -> int:
    """Run `rbn-jax`; return 0, or 2 after one line on stderr for bad input."""
    arguments = sys.argv[1:] if arguments is None else arguments
    words = [argument for argument in arguments if not argument.startswith("-")]
    app = _make_app(words[0] if words else None)
    return run_app(app, arguments, "rbn-jax")


def run_app(app: typer.Typer, arguments: list[str], program: str) -> int:
    """Run a typer program; warnings and errors are one line each on stderr."""

    def show_warning(message: Warning | str, *_: object) -> None:
        print(f"{program}: warning: {_one_line(str(message))}", file=sys.stderr)

    def fail(message: str) -> int:
        print(f"{program}: {_one_line(message)}", file=sys.stderr)
        return 2

    with warnings.catch_warnings():
        warnings.showwarning = show_warning
        try:
            status = app(arguments or ["--help"], standalone_mode=False)
        except (KeyboardInterrupt, StoppedError) as error:
            print(f"{program}: {error or 'stopped'}", file=sys.stderr)
            return 130
        except OSError as error:
            return fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        except (ValueError, RuntimeError, ImportError, MemoryError) as error:
            return fail(str(error) or "out of memory")
        except Exception as error:
            format_message = getattr(error, "format_message", None)
            if format_message is None:  # only typer's own errors have one
                raise
            return fail(format_message())
    return status or 0


def new_app(help_text: str) -> typer.Typer:
    """Make a typer program with the settings that all programs share."""
    return typer.Typer(
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
        help=help_text,
    )


def _make_app(called: str | None) -> typer.Typer:
    """Make the program; of all commands, only the module of the called one is imported."""
    app = new_app("Balanced random networks: weights, sweeps, fits, firing rates, figures.")
    app.callback()(_main)
    for name, (module, summary) in COMMANDS.items():
        if name == called:
            command_module = importlib.import_module(f"rbn_jax.cli.{module}")
            app.command(name)(getattr(command_module, name))
        else:
            app.command(name, help=summary)(_not_called)
    return app


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"rbn-jax {rbn_jax.__version__}")
        raise typer.Exit


def _main(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    pass


def _not_called() -> None:
    """Stand for a command in the list of `--help`."""


def _one_line(text: str) -> str:
    return " ".join(text.split())
