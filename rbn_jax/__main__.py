"""Entry point of `rbn-jax` and `python -m rbn_jax`."""

import os
import signal
import sys

from rbn_jax.parameters.optional import require


def main() -> None:
    """Run the command line; without typer, say which extra installs it."""
    try:
        require("typer", "cli")
        from rbn_jax.cli import run

        status = run()
    except ImportError as error:
        print(f"rbn-jax: {error}", file=sys.stderr)
        status = 2
    except KeyboardInterrupt:
        # Ctrl-C while Python imports
        print("rbn-jax: stopped", file=sys.stderr)
        status = 130
    # all is done: a Ctrl-C from here on would only disturb the clearing up at the end of Python
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if status > 128:
        # JAX may be interrupted half way, and then crash at the end of Python: do without that end
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    raise SystemExit(status)


if __name__ == "__main__":
    main()
