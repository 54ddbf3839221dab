"""The command line: a module for each command, imported when the command is called."""

from rbn_jax.cli.app import run

__all__ = ["run"]
