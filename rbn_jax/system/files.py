"""Files and directories that are written completely or not at all, and locks on directories."""

import contextlib
import errno
import os
import shutil
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
    draft = path.with_name(f".rbn-jax-{uuid.uuid4().hex}{path.suffix}")
    try:
        yield str(draft)
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Yield a temporary directory, which becomes `path` if nothing fails.

    It is dropped where another process has created `path` first.
    """
    draft = _hidden_name(path)
    draft.mkdir()
    try:
        yield draft
        try:
            os.rename(draft, path)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def delete_directory(path: Path) -> None:
    """Delete a directory on which no other process works.

    Raises:
        ValueError: another process works on it.
    """
    with lock_directory(path, exclusive=True):
        # renamed first, so that no process finds a directory of which a part is deleted
        trash = _hidden_name(path)
        os.rename(path, trash)
        shutil.rmtree(trash)


@contextlib.contextmanager
def lock_directory(path: Path, exclusive: bool) -> Iterator[None]:
    """Lock a directory; the kernel releases it when the process ends, however it ends.

    Some network file systems know such a lock on one machine only.

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
        if not os.path.samestat(os.fstat(directory), os.stat(path)):
            raise ValueError(f"{path}: another process has replaced it: call again")
        yield
    finally:
        os.close(directory)


def _hidden_name(path: Path) -> Path:
    return path.with_name(f".{path.name}-{uuid.uuid4().hex}")
