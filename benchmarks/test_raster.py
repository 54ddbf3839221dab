"""A raster of a million spikes, drawn and saved, against drawing all as NEST's helper does."""

import io

import matplotlib.pyplot as plt
import numpy as np
import pytest

from rbn_jax.plot import raster_plot

GROUPS = {"one group": None, "two groups": [("k", 0, 4000), ("darkred", 4000, 5001)]}


def by_hand(spikes, groups):
    """Python's min and max over the array, a marker for every spike."""
    _, ax = plt.subplots()
    tlim = [min(spikes[0]), max(spikes[0])]
    for color, start, stop in groups or [("k", 0, max(spikes[1]))]:
        chosen = np.logical_and(spikes[1] >= start, spikes[1] < stop)
        ax.plot(*spikes[:, chosen], color=color, marker=".", linestyle="None", markersize=0.5)
    ax.set_xlim(tlim)
    ax.set_ylim([0, max(spikes[1])])
    return ax


@pytest.mark.parametrize("way", ["as in NEST's helper", "rbn_jax"])
@pytest.mark.parametrize("groups", GROUPS)
def test_raster_of_a_million_spikes(benchmark, groups, way):
    rng = np.random.default_rng(0)
    spikes = np.stack([np.sort(rng.uniform(0, 1e4, 10**6)), rng.integers(0, 5000, 10**6)])

    def draw():
        ax = (
            by_hand(spikes, GROUPS[groups])
            if way != "rbn_jax"
            else raster_plot(spikes, colorgroups=GROUPS[groups])
        )
        ax.figure.savefig(io.BytesIO(), format="png")
        plt.close("all")

    benchmark.group = f"raster, 1e6 spikes, {groups}"
    benchmark.extra_info["way"] = way
    benchmark.pedantic(draw, rounds=5, warmup_rounds=1)
