"""Files and directories that are written completely or not at all, and locks on directories."""

import contextlib
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: nothing stops a process from overwriting a directory in use
    fcntl = None


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[str]:
    """Yield the name of a temporary file, which replaces `path` if nothing fails."""
    # in the folder of `path`: os.replace is atomic within one file system only
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=".rbn-jax-", suffix=path.suffix)
    os.close(handle)
    try:
        yield draft
        # mkstemp makes a file that only its owner can read; give it the usual mode,
        # which the umask sets, and the umask can only be read by setting it
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(draft, 0o666 & ~umask)
        os.replace(draft, path)
    finally:
        if os.path.exists(draft):
            os.unlink(draft)


@contextlib.contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Yield a temporary directory, which becomes `path` if nothing fails.

    It is dropped where another process has created `path` first.
    """
    draft = _hidden_name(path)
    draft.mkdir()
    try:
        yield draft
        with contextlib.suppress(OSError):
            os.rename(draft, path)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def delete_directory(path: Path) -> None:
    """Delete a directory on which no other process works.

    Raises:
        ValueError: another process works on it.
    """
    with lock_directory(path, exclusive=True):
        # renamed first, so that no process finds a directory of which a part is deleted
        draft = _hidden_name(path)
        os.rename(path, draft)
        shutil.rmtree(draft)


@contextlib.contextmanager
def lock_directory(path: Path, exclusive: bool) -> Iterator[None]:
    """Lock a directory; the kernel releases it when the process ends, however it ends.

    Raises:
        ValueError: another process works on it, where one of the two locks is exclusive.
    """
    if fcntl is None:
        yield
        return
    directory = os.open(path, os.O_RDONLY)
    try:
        try:
            mode = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
            fcntl.flock(directory, mode | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"{path}: another process works on it; stop it first") from None
        yield
    finally:
        os.close(directory)


def _hidden_name(path: Path) -> Path:
    return path.with_name(f".{path.name}-{uuid.uuid4().hex}")
