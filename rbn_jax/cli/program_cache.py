"""Compiled programs in the user's cache folder, by JAX's persistent compilation cache."""

import hashlib
import os
import platform
import sys
import warnings
from pathlib import Path

_FOLDER_VARIABLE = "JAX_COMPILATION_CACHE_DIR"
_SECONDS_VARIABLE = "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"


def keep_compiled_programs() -> None:
    """Let JAX keep what it compiles in the user's cache folder, and load it from there.

    Nothing is changed where the user has set JAX's folder. A folder that cannot be written is no
    error: a warning names it.
    """
    if _FOLDER_VARIABLE in os.environ:
        return
    folder = _user_cache_folder() / "rbn_jax" / _machine_name()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        is_writable = os.access(folder, os.W_OK)
    except OSError:
        is_writable = False
    if not is_writable:
        warnings.warn(f"{folder} cannot be written: compiled programs are not kept", stacklevel=2)
        return
    # for JAX, if it is imported later, and for processes that this one starts
    os.environ[_FOLDER_VARIABLE] = str(folder)
    # by default programs that compile in less than 1 s are not kept: a command has several
    os.environ.setdefault(_SECONDS_VARIABLE, "0")
    if "jax" in sys.modules:
        import jax

        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update(
            "jax_persistent_cache_min_compile_time_secs", float(os.environ[_SECONDS_VARIABLE])
        )


def _user_cache_folder() -> Path:
    """Return the folder in which programs of this user keep what they can make again."""
    if folder := os.environ.get("XDG_CACHE_HOME"):
        return Path(folder)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    if sys.platform == "win32" and (folder := os.environ.get("LOCALAPPDATA")):
        return Path(folder)
    return Path.home() / ".cache"


def _machine_name() -> str:
    """Return a name that differs between processors.

    A home folder may be shared by computers whose processors have other instructions, and
    JAX would load a program for them all the same.
    """
    features = platform.processor()
    try:
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith(("flags", "Features")):
                features = line
                break
    except OSError:  # not Linux
        pass
    digest = hashlib.sha256(features.encode()).hexdigest()[:8]
    return f"{platform.machine()}-{digest}"
