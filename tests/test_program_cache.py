"""The command line keeps compiled programs in the user's cache folder."""

import os
import subprocess
import sys

import pytest


def run_weights(*options, **environment):
    command = [sys.executable, "-m", "rbn_jax", "weights", *options]
    inherited = {name: os.environ[name] for name in os.environ if "JAX_" not in name}
    environment = {**inherited, **environment}
    process = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert process.returncode == 0, process.stderr
    return process


def programs(folder):
    return sorted(file.name for file in folder.rglob("jit_*-cache"))


def test_compiled_programs_are_kept_and_loaded(tmp_path):
    first = run_weights(XDG_CACHE_HOME=str(tmp_path))
    kept = programs(tmp_path / "rbn_jax")
    assert kept
    second = run_weights(XDG_CACHE_HOME=str(tmp_path))
    assert second.stdout == first.stdout
    assert programs(tmp_path / "rbn_jax") == kept
    # other numbers are no other programs
    run_weights("--set", "tau_E=12", XDG_CACHE_HOME=str(tmp_path))
    assert programs(tmp_path / "rbn_jax") == kept


def test_no_cache_keeps_nothing(tmp_path):
    run_weights("--no-cache", XDG_CACHE_HOME=str(tmp_path))
    assert not programs(tmp_path)


def test_a_folder_that_the_user_has_set_is_used(tmp_path):
    own, other = tmp_path / "own", tmp_path / "other"
    folders = {"JAX_COMPILATION_CACHE_DIR": str(own), "XDG_CACHE_HOME": str(other)}
    run_weights(**folders, JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0")
    assert programs(own)
    assert not programs(other)


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="needs a folder that nobody can write")
def test_a_folder_that_cannot_be_written_is_one_line():
    process = run_weights(XDG_CACHE_HOME="/proc/none", MPLCONFIGDIR="/tmp")
    assert process.stderr.startswith("rbn-jax: warning: /proc/none/rbn_jax/")
    assert process.stderr.count("\n") == 1
