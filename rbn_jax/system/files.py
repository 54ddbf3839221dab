"""Files and directories that are written completely or not at all, and locks on directories."""

import contextlib
import errno
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: nothing stops a process from overwriting a directory in use
    fcntl = None

DRAFT_PREFIX = ".rbn-jax-"
"""The start of the name of a temporary file, which a killed process may leave."""
_MARK_PREFIX = f"{DRAFT_PREFIX}running-"


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[str]:
    """Yield the name of a temporary file, which replaces `path` if nothing fails."""
    # in the folder of `path`: os.replace is atomic within one file system only
    draft = path.with_name(f"{DRAFT_PREFIX}{uuid.uuid4().hex}{path.suffix}")
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


def copy_changes(source: Path, target: Path, last: str) -> None:
    """Make the files of a directory equal to those of another one, each at once or not at all.

    Files with equal content are not touched, nor are those that only the target has.

    last: the name of the file that is written after all others
    """
    for file in sorted(source.rglob("*"), key=lambda file: file == source / last):
        copy = target / file.relative_to(source)
        if file.is_dir():
            copy.mkdir(parents=True, exist_ok=True)
            continue
        data = file.read_bytes()
        if _holds(copy, data):
            continue
        copy.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(copy) as draft:
            Path(draft).write_bytes(data)


def _holds(file: Path, data: bytes) -> bool:
    """Return whether a file holds the data; of JSON the order of keys does not count."""
    if not file.is_file():
        return False
    if file.suffix != ".json":
        return file.stat().st_size == len(data) and file.read_bytes() == data
    # some versions of Zarr list the arrays of a group in another order in each call
    try:
        return _sorted_json(file.read_bytes()) == _sorted_json(data)
    except (ValueError, RecursionError):  # the file is damaged
        return False


def _sorted_json(data: bytes) -> str:
    """Return JSON with its keys in order; as a text, in which 1, 1.0 and true differ."""
    return json.dumps(json.loads(data), sort_keys=True)


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


@contextlib.contextmanager
def mark_running(path: Path) -> Iterator[None]:
    """Keep a locked file in a directory while this process works there.

    A process that is killed leaves its file, unlocked; see `stale_marks`.
    """
    mark = path / f"{_MARK_PREFIX}{uuid.uuid4().hex}"
    try:
        number = os.open(mark, os.O_CREAT | os.O_RDWR)
    except OSError:
        # of a directory that cannot be written to, the work itself will tell
        yield
        return
    try:
        if fcntl is not None:
            fcntl.flock(number, fcntl.LOCK_EX)
        yield
    finally:
        os.close(number)
        mark.unlink(missing_ok=True)


def stale_marks(path: Path) -> dict[Path, float]:
    """Return the files that killed processes have left, with the times when these started."""
    marks: dict[Path, float] = {}
    if fcntl is None:
        return marks
    for mark in path.glob(f"{_MARK_PREFIX}*"):
        # a process that ends removes its own
        with contextlib.suppress(FileNotFoundError), mark.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            marks[mark] = mark.stat().st_mtime
    return marks


def _hidden_name(path: Path) -> Path:
    return path.with_name(f".{path.name}-{uuid.uuid4().hex}")
