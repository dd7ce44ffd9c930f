"""Make a new folder completely or not at all: under a temporary name, which is cleared away even after a kill."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from configs.errors import Fault, InputError, raise_faults
from configs.files import PARTIAL, naming, umask
from configs.outputs import folder_faults

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]


@contextmanager
def new_folder(target: Path, needed: int = 0) -> Iterator[Path]:
    """Yield a temporary folder beside `target`, and rename it to `target` after the block if there was no error.

    Temporary folders of killed processes for the same target are removed first. If an `OSError` names no file, it gets `target`.

    Raises:
        InputError: the target exists or cannot be written, or fewer than `needed` bytes are free.
    """
    raise_faults(target_faults(target))
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(target)
    free = shutil.disk_usage(target.parent).free
    if needed > free:
        raise InputError(Fault(str(target.parent), f"{needed} bytes are needed, but only {free} are free", "Free some space"))
    with folder_in_use(target) as temporary:
        yield temporary
        temporary.chmod(0o777 & ~umask())
        temporary.rename(target)


def target_faults(target: Path) -> Iterator[Fault]:
    """Yield the faults for which a new folder cannot be made at `target`."""
    if target.exists() or target.is_symlink():
        yield Fault(str(target), "the folder already exists", "Choose a new folder with -o, or remove this one")
    yield from folder_faults(target.parent)


@contextmanager
def folder_in_use(target: Path) -> Iterator[Path]:
    """Yield a new temporary folder beside `target`, to be renamed to it; it is removed at the end if it still exists.

    `remove_leftovers` removes the folders of killed processes. If an `OSError` names no file, it gets `target` as its file.
    """
    temporary, lock = _make(target)
    try:
        with naming(target):
            yield temporary
    finally:
        # Keep the first error, rather than one about deleting on a failed disk.
        shutil.rmtree(temporary, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def remove_leftovers(target: Path) -> None:
    """Remove temporary folders for this target whose process no longer exists."""
    for folder in target.parent.glob(f"{_prefix(target)}*"):
        if folder.is_symlink() or not folder.is_dir():
            continue
        lock = _lock(folder)
        if lock is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)


def _make(target: Path) -> tuple[Path, int | None]:
    """Create the folder, and return it with its lock, if the system has locks."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_prefix(target), dir=target.parent))
        lock = _lock(folder)
        if lock is None or _is_same(folder, lock):
            return folder, lock
        os.close(lock)  # removed as a leftover before it was locked


def _prefix(target: Path) -> str:
    """Return the prefix of all temporary folders for one target, short even if its name is long."""
    return f"{PARTIAL}{hashlib.sha256(os.fsencode(target.name)).hexdigest()[:12]}-"


def _lock(folder: Path) -> int | None:
    """Return an open descriptor that holds the folder's lock; None if another process holds it or there are no locks."""
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
