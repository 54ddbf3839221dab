"""What the tests of stores have in common: sweeps, and functions to sweep."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

import rbn_jax as rbn

NET = rbn.NetworkParams(tau_syn_ex=3.0)
AXES = {"tau_E": np.linspace(5, 40, 7), "gei": np.linspace(1, 2, 5), "tau_I": [10.0, 20.0]}
PAIRED = {name: xr.DataArray(np.linspace(5, 40, 23), dims="sample") for name in ("tau_E", "tau_I")}
weights = rbn.calculate_RBN_weights


def several(p):
    return {
        "peak": p.tau_E * jnp.arange(3.0),
        "whole": jnp.int32(p.tau_E),
        "long": p.tau_E > 20,
    }


def slopes(p):
    return rbn.jacobian(weights, p, ["tau_E", "gei"])


def shares(p):
    return rbn.elasticity(weights, p, ["tau_E", "gei"])


def at_run_time(p, call):
    """p.tau_E, by way of Python at run time."""
    like = jax.ShapeDtypeStruct((), p.tau_E.dtype)
    return jax.pure_callback(call, like, p.tau_E, vmap_method="sequential")


def never(p):
    def fail(_):
        raise AssertionError("nothing may run")

    return at_run_time(p, fail)


def chunks(store, name):
    return sorted(x for x in Path(store, name, "c").rglob("*") if x.is_file())
