"""The progress of long work: a bar in a terminal or a notebook, lines of a log elsewhere."""

import sys
import time

from rbn_jax.parameters.optional import require


class Progress:
    """Units of work done, units per second and time left.

    title: what is done, for the lines of a log
    preparation: what is done before the first unit; "" for work that is often short, which shows
        no bar in its first half second, and no line in its first 30 seconds
    total: number of units
    missing: units that are not computed yet
    extra: the extra of this package that has tqdm, for the error where it is missing
    shown: False for nothing; True for a bar; None for a bar in a terminal or a notebook, and for
        a line on stderr every 30 seconds elsewhere, as in the log of a batch job
    log_interval: seconds between lines; None without a log
    """

    def __init__(
        self,
        shown: bool | None,
        title: str,
        preparation: str,
        total: int,
        missing: int,
        unit: str = "points",
        extra: str = "sweep",
    ):
        self.log_interval: float | None = None
        self._title = title
        self._unit = unit
        self._total = total
        self._start = self._last_log = time.monotonic()
        self._done = self._initial = total - missing
        self._bar = None
        if shown is False or not missing:
            return
        tqdm = require("tqdm.auto", extra).tqdm
        # the class for notebooks is the only one that is defined in this module itself
        in_notebook = tqdm.__module__ == "tqdm.auto"
        if shown or in_notebook or sys.stderr.isatty():
            self._bar = tqdm(
                desc=preparation,
                total=total,
                initial=self._done,
                unit=f" {unit}",
                unit_scale=True,
                delay=0 if preparation else 0.5,
            )
            return
        self.log_interval = 30.0
        if preparation:
            self._print(preparation)

    @classmethod
    def silent(cls) -> "Progress":
        """Return one that shows nothing, of work that is a part of other work."""
        return cls(False, "", "", 0, 0)

    def add(self, units: int) -> None:
        """Count units that are done."""
        self._done += units
        if self._bar is not None:
            self._bar.set_description(refresh=False)
            self._bar.update(units)

    def log(self) -> None:
        """Print a line if it is time to."""
        now = time.monotonic()
        if self.log_interval is None or now - self._last_log < self.log_interval:
            return
        self._last_log = now
        rate = (self._done - self._initial) / (now - self._start)
        left = f"{(self._total - self._done) / rate:.0f} s left" if rate else "no block done yet"
        done = f"{self._done:,} of {self._total:,} {self._unit}"
        self._print(f"{done}, {rate:.3g} {self._unit}/s, {left}")

    def close(self) -> None:
        """End the bar."""
        if self._bar is not None:
            self._bar.close()

    def _print(self, text: str) -> None:
        print(f"{self._title}: {text}", file=sys.stderr, flush=True)
