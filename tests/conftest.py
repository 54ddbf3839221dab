"""Settings and fixtures of all tests."""

import platform
import sys

import jax
import matplotlib.pyplot as plt
import numpy as np
import pytest
from hypothesis import settings

plt.switch_backend("Agg")

# the same examples in every run; compiling takes longer than any deadline
settings.register_profile("fixed", derandomize=True, deadline=None, max_examples=60)
settings.load_profile("fixed")


@pytest.fixture(scope="session", autouse=True)
def _own_cache_folder(tmp_path_factory):
    """Keep what commands compile in a folder of the tests, not in that of the user."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module", autouse=True)
def _release_compiled_programs():
    """Release what a file of tests compiled.

    Each compiled program maps several pieces of memory, and Linux gives a process 65,530 of
    them by default: XLA ends a process that asks for more.
    """
    yield
    jax.clear_caches()


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    """Each precision in turn; JAX computes in it."""
    with jax.enable_x64(request.param == "float64"), jax.numpy_dtype_promotion("strict"):
        yield np.dtype(request.param)


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


@pytest.fixture
def nest_wheel():
    """Skip the test where PyPI has no NEST; elsewhere the test fails if NEST is missing."""
    has_wheel = sys.platform == "linux" and platform.machine() == "x86_64"
    if not has_wheel or sys.version_info >= (3, 14):
        pytest.skip("PyPI has no nest-simulator for this platform or Python")


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")
