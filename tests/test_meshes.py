"""Batches that eight devices share: each device has its part of the result of one device."""

import dataclasses
import os
import subprocess
import sys

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from rbn_jax import (
    NetworkParams,
    Populations,
    calibrate,
    firing_rates,
    mean_field,
)

TAU = np.linspace(15, 30, 16, dtype=np.float32)
GEI = np.linspace(1.1, 1.3, 8)
TARGETS = np.linspace(3, 6, 16, dtype=np.float32)
# with this rule no network has the regime split_probability: a flag that XLA knows to be False
NET = NetworkParams(rep=3.0, connection_rule="pairwise_poisson")
INHIBITORY = Populations(
    weights=[[-0.2]],
    indegrees=[[100.0]],
    connection_prob=[[0.1]],
    tau_m=20.0,
    tau_syn=5.0,
    t_ref=2.0,
    V_th=20.0,
    V_r=0.0,
    mu_ext=30.0,
    sigma_ext=2.0,
)
EVERY_AXIS = ("x", "y")


def state(tau, **changes):
    return mean_field(NET.replace(tau_E=tau, **changes), "shift")


def rates(tau):
    return firing_rates(NET.replace(tau_E=tau), "shift")


def slope(tau):
    return jax.grad(lambda tau: rates(tau).sum())(tau)


def calibrated(target):
    return calibrate(NET, (target, 6.0), theory="shift").I_th_E


def evaluate(place, map_shards):
    """Return results by name, and the text of a compiled program.

    place: place(array, *spec) puts an array on devices
    map_shards: jax.shard_map over the first axis, or the identity
    """
    rows = place(TAU.reshape(2, 8), None, EVERY_AXIS)
    slopes = jax.jit(jax.vmap(jax.vmap(slope))).lower(rows).compile()
    results = {
        "8000": state(place(np.linspace(15, 30, 8000, dtype=np.float32), EVERY_AXIS)),
        "slopes in vmap": slopes(rows),
        "calibrate": calibrated(place(TARGETS.reshape(2, 8), None, EVERY_AXIS)),
        "shard_map": map_shards(state)(place(TAU, EVERY_AXIS)),
        "calibrate in shard_map": map_shards(calibrated)(place(TARGETS, EVERY_AXIS)),
    }
    with jax.enable_x64(True):
        tau = place(TAU[::4, None].astype(float), "x", None)
        # JAX 0.10 takes an array of NET that a program in float32 has for its float64 array
        probability = NET.baseline_conn_prob.copy()
        results["float64"] = state(tau, gei=place(GEI, "y"), baseline_conn_prob=probability)
    return results, slopes.as_text()


def inhibitory(place):
    mu_ext = place(TAU[:, None] + 10, EVERY_AXIS)
    return mean_field(dataclasses.replace(INHIBITORY, mu_ext=mu_ext), "shift")


def leaves_by_name(results):
    leaves = jax.tree_util.tree_leaves_with_path(results)
    return {jax.tree_util.keystr(path): leaf for path, leaf in leaves}


def run_on_eight_devices(axis_type, file):
    """Check that each device has an eighth of every array, and save the arrays."""
    mesh = jax.make_mesh((2, 4), EVERY_AXIS, axis_types=(axis_type, axis_type))

    def place(array, *spec):
        return jax.device_put(array, NamedSharding(mesh, PartitionSpec(*spec)))

    def map_shards(function):
        part = PartitionSpec(EVERY_AXIS)
        return jax.jit(jax.shard_map(function, in_specs=part, out_specs=part))

    # JAX 0.10 may take an array that programs in float32 have for one in float64 after these calls
    jax.jit(rates)(TAU[:3])
    with jax.set_mesh(mesh):
        assert rates(TAU[:3]).shape == (3, 2)
        assert calibrated(5.0).dtype == np.float64
        results, program = evaluate(place, map_shards)
    results["without a context"] = inhibitory(place)
    arrays = leaves_by_name(results)
    for name, array in arrays.items():
        sizes = {str(shard.index): shard.data.size for shard in array.addressable_shards}
        assert list(sizes.values()) == [array.size // 8] * 8, (name, array.sharding)
    # no device waits for another one, or searches for the networks of another one
    for operation in ("all-gather", "all-reduce", "all-to-all", "collective-permute"):
        assert operation not in program, operation
    np.savez(file, **{name: np.asarray(array) for name, array in arrays.items()})


def run_on_one_device():
    def place(array, *spec):
        return array

    results, _ = evaluate(place, map_shards=lambda function: function)
    return leaves_by_name({**results, "without a context": inhibitory(place)})


def test_eight_devices_share_a_batch_and_give_the_result_of_one(tmp_path):
    on_one_device = run_on_one_device()
    for axis_type in ("Auto", "Explicit"):
        compare_with_eight_devices(on_one_device, axis_type, tmp_path)


def compare_with_eight_devices(on_one_device, axis_type, tmp_path):
    file = tmp_path / "results.npz"
    command = [sys.executable, "-W", "error", __file__, axis_type, str(file)]
    # each device traces the search without the settings of the caller
    strict = {"JAX_NUMPY_RANK_PROMOTION": "raise"}
    devices = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    environment = {**os.environ, **strict, **devices}
    process = subprocess.run(command, capture_output=True, text=True, timeout=600, env=environment)
    assert process.returncode == 0, process.stderr
    with np.load(file) as on_eight_devices:
        assert set(on_eight_devices) == set(on_one_device)
        for name, expected in on_one_device.items():
            array = on_eight_devices[name]
            assert array.shape == expected.shape
            # other shapes are compiled to other vector loops, which round differently
            rtol = 1e-12 if array.dtype == np.float64 else 1e-5
            if "cluster_gain" in name and array.dtype == np.float32:
                # It is an eigenvalue of [[1, -0.7], [0.8, -0.6]], whose two eigenvalues differ by
                # 0.3: errors of the entries, which are those of rates, are up to 10 times larger.
                rtol *= 10
            np.testing.assert_allclose(array, expected, rtol, atol=rtol, err_msg=name)


if __name__ == "__main__":
    run_on_eight_devices(AxisType[sys.argv[1]], sys.argv[2])
