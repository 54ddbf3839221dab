"""`python -m benchmarks`: the table of `rbn-jax bench`, written to benchmarks/results."""

import sys
from pathlib import Path

from rbn_jax.cli import run

RESULTS = Path(__file__).parent / "results"

if __name__ == "__main__":
    words = sys.argv[1:]
    chosen = any(word in ("--only", "--list", "--out", "-h", "--help") for word in words)
    sys.exit(run(["bench", *words, *([] if chosen else ["--out", str(RESULTS)])]))
