"""A temporary folder that is known to be in use while its process lives, so that what a killed one left can be told and removed.

The folder is locked with the system's `flock`, which ends with the process, however that ends. Where there are no such locks (Windows,
some network disks), nothing is removed.
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from configs.files import PARTIAL

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]


@contextmanager
def folder_in_use(target: Path) -> Iterator[Path]:
    """A new temporary folder beside `target`, for what will be renamed to it; it is removed at the end where it is still there.

    See `remove_leftovers` for what a process that is killed leaves. An `OSError` of the block names `target` where it named no file.
    """
    temporary, lock = _make(target)
    try:
        yield temporary
    except OSError as error:
        if error.errno is not None and error.filename is None:  # a full disk names no file by itself
            error.filename = str(target)
        raise
    finally:
        # The first error counts, not that of a disk on which nothing can be deleted.
        shutil.rmtree(temporary, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def remove_leftovers(target: Path) -> None:
    """Remove temporary folders for this target whose process is not there any more."""
    for folder in target.parent.glob(f"{_prefix(target)}*"):
        if folder.is_symlink() or not folder.is_dir():
            continue
        lock = _lock(folder)
        if lock is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)


def _make(target: Path) -> tuple[Path, int | None]:
    """The folder, and its lock where there are locks."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_prefix(target), dir=target.parent))
        lock = _lock(folder)
        if lock is None or _is_same(folder, lock):
            return folder, lock
        os.close(lock)  # taken for a leftover before it was locked


def _prefix(target: Path) -> str:
    """Of all folders for one target, short whatever its name."""
    return f"{PARTIAL}{hashlib.sha256(os.fsencode(target.name)).hexdigest()[:12]}-"


def _lock(folder: Path) -> int | None:
    """An open descriptor that holds the folder's lock; None where another process has it, or where there are no locks."""
    if fcntl is None:
        return None
    descriptor = None
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        if descriptor is not None:
            os.close(descriptor)
        return None
    return descriptor


def _is_same(folder: Path, descriptor: int) -> bool:
    with suppress(OSError):
        return os.path.samestat(folder.stat(), os.fstat(descriptor))
    return False
