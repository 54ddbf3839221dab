"""Entry point of `rbn-jax` and `python -m rbn_jax`."""

import os
import signal
import sys

from rbn_jax.parameters.optional import require
from rbn_jax.system.interrupts import noticed_interrupts, quiet_finalizers


def main() -> None:
    """Run the command line; without typer, say which extra installs it."""
    status = number = 0
    try:
        # also while Python imports, where a finalizer may drop the KeyboardInterrupt
        with noticed_interrupts() as interrupted, quiet_finalizers():
            try:
                require("typer", "cli")
                from rbn_jax.cli import run

                status = run()
            finally:
                number = interrupted()
    except ImportError as error:
        print(f"rbn-jax: {error}", file=sys.stderr)
        status = 2
    except KeyboardInterrupt:
        # a command that was stopped has said so, and has this status
        if status <= 128:
            print("rbn-jax: stopped", file=sys.stderr)
            status = 128 + (number or signal.SIGINT)
    # the command has ended: a Ctrl-C from here on would only interrupt the shutdown of Python
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if status > 128:
        # an interrupted JAX may crash while Python shuts down, so the shutdown is skipped
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    raise SystemExit(status)


if __name__ == "__main__":
    main()
