"""Entry point of `rbn-jax` and `python -m rbn_jax`."""

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
    raise SystemExit(status)


if __name__ == "__main__":
    main()
