"""The program `rbn-jax`: its commands, its exit status and its error messages."""

import contextlib
import functools
import importlib
import inspect
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Annotated

import typer

import rbn_jax
from rbn_jax.cli.program_cache import keep_compiled_programs
from rbn_jax.system.interrupts import (
    deferred_interrupts,
    noticed_interrupts,
    quiet_finalizers,
)

COMMANDS = {
    "weights": ("weights_command", "Print the 2x2 weights [pA*sqrt(N)] of one network."),
    "psp": ("psp_command", "Print the features of the PSP to one event."),
    "sweep": (
        "sweep_command",
        "Sweep weights or rates over axes; write netCDF and a figure.",
    ),
    "raster": (
        "raster_command",
        "Draw spikes, excitatory neurons black, inhibitory red.",
    ),
    "fit": ("fit_command", "Fit parameters to data, as a TOML file specifies."),
    "rates": ("rates_command", "Print the stationary firing rates of E and I."),
    "calibrate": (
        "rates_command",
        "Find two parameters that give wanted firing rates.",
    ),
    "clusters": (
        "clusters_command",
        "Print the states of a clustered network, and where they begin.",
    ),
    "dynamics": (
        "dynamics_command",
        "Simulate a network without NEST; print whether it locks.",
    ),
    "simulate": (
        "simulate_command",
        "Simulate a network in NEST; print the statistics of its spikes.",
    ),
    "compare": (
        "simulate_command",
        "Print what theory says of a network beside what NEST shows.",
    ),
}
"""Module and summary of each command. A module is imported only when its command is
called, so that `rbn-jax --help` and `--version` do not wait for JAX."""

# not with the options that commands share, whose module loads JAX
_NoCache = Annotated[
    bool,
    typer.Option(
        "--no-cache",
        help="Neither load compiled programs from the user's cache folder, nor keep them there.",
    ),
]


class StoppedError(Exception):
    """A Ctrl-C with its message, which says what is kept and how to resume."""


@contextlib.contextmanager
def keep_interrupt_message() -> Iterator[None]:
    """Raise a KeyboardInterrupt as a StoppedError with its message."""
    # typer would end at a KeyboardInterrupt without its message
    try:
        yield
    except KeyboardInterrupt as error:
        raise StoppedError(str(error)) from None


def run(arguments: list[str] | None = None) -> int:
    """Run `rbn-jax`; return 0, 2 for bad input, 130 after Ctrl-C, or 143 after SIGTERM."""
    if arguments is None:
        arguments = sys.argv[1:]
    return run_app(_run_command, arguments, "rbn-jax")


def run_app(app: Callable[..., int | None], arguments: list[str], program: str) -> int:
    """Run a typer program; each warning or error is one line on stderr."""

    def print_line(text: str) -> None:
        print(f"{program}: {' '.join(text.split())}", file=sys.stderr)

    def show_warning(message: Warning | str, *_: object) -> None:
        print_line(f"warning: {message}")

    # without standalone_mode=False typer would print errors itself, over many lines
    with warnings.catch_warnings():
        warnings.showwarning = show_warning
        number = signal.SIGINT
        try:
            with noticed_interrupts() as interrupted, quiet_finalizers():
                try:
                    status = app(arguments or ["--help"], standalone_mode=False, prog_name=program)
                    # typer may return after a Ctrl-C, and a finalizer may have dropped it
                    if interrupted():
                        raise KeyboardInterrupt
                except StoppedError:
                    raise
                except Exception:
                    # an import within a command may have turned a Ctrl-C into another error
                    if interrupted():
                        raise KeyboardInterrupt from None
                    raise
                finally:
                    number = interrupted() or number
            return status or 0
        # typer turns a Ctrl-C outside of a command into its Abort
        except (KeyboardInterrupt, StoppedError, typer.Abort) as error:
            print_line(str(error) or "stopped")
            return 128 + number
        except OSError as error:
            print_line(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        except (ValueError, RuntimeError, ImportError, MemoryError) as error:
            print_line(str(error) or "out of memory")
        except Exception as error:
            # only typer's own errors, such as an unknown option, have this method
            format_message = getattr(error, "format_message", None)
            if format_message is not None:
                print_line(format_message())
            elif not _jax_has_devices():
                # JAX ends in an assertion where the platform has no device
                platforms = os.environ.get("JAX_PLATFORMS")
                print_line(f"JAX_PLATFORMS={platforms}: JAX has no such device here; unset it")
            else:
                raise
    return 2


def _jax_has_devices() -> bool:
    import jax

    try:
        return bool(jax.devices())
    # whatever it is that JAX raises there
    except Exception:
        return False


def new_app(help_text: str) -> typer.Typer:
    """Make a typer program with the settings that all programs share."""
    return typer.Typer(
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
        help=help_text,
    )


def _run_command(arguments: list[str], **settings: object) -> int | None:
    """Run the command that the first argument names."""
    name = arguments[0]
    if name not in (*COMMANDS, "-h", "--help", "--version"):
        advice = ": write options after a command" if name.startswith("-") else ""
        raise ValueError(f"unknown command {name!r}{advice}; valid commands: {', '.join(COMMANDS)}")
    return _make_app(name)(arguments, **settings)


def _make_app(called: str) -> typer.Typer:
    """Make the program, and import the module of the called command only."""
    app = new_app("Balanced random networks: weights, sweeps, fits, firing rates, figures.")
    app.callback()(_main)
    for name, (module, summary) in COMMANDS.items():
        if name == called:
            with deferred_interrupts():
                command = getattr(importlib.import_module(f"rbn_jax.cli.{module}"), name)
            app.command(name)(_with_cache(keep_interrupt_message()(command)))
        else:
            app.command(name, help=summary)(_not_called)
    return app


def _with_cache(command: Callable[..., None]) -> Callable[..., None]:
    """Return the command with the option --no-cache; without it compiled programs are kept."""

    @functools.wraps(command)
    def run(*, no_cache: bool, **arguments: object) -> None:
        if not no_cache:
            keep_compiled_programs()
        command(**arguments)

    # typer reads the options from the signature
    option = inspect.Parameter(
        "no_cache", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=_NoCache
    )
    parameters = inspect.signature(command).parameters.values()
    run.__signature__ = inspect.Signature([*parameters, option])  # pyright: ignore[reportAttributeAccessIssue]
    return run


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"rbn-jax {rbn_jax.__version__}")
        raise typer.Exit


def _main(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_print_version,
            is_eager=True,
            help="Print the version and exit.",
        ),
    ] = False,
) -> None:
    pass


def _not_called() -> None:
    """Stand for a command in the list of `--help`."""
