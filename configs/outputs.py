"""Check before work begins that its outputs can be written by this process alone, and that names in a path stay in their folder."""

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from configs.errors import Fault, InputError

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

_SEPARATORS = tuple(separator for separator in (os.sep, os.altsep, "\0") if separator)


def name_faults(kind: str, names: Iterable[str]) -> Iterator[Fault]:
    """Yield a fault for each name of a `kind`, such as `case`, that leads out of its folder, is empty, or cannot be written as text."""
    for name in names:
        if not _is_text(name):
            shown = name.encode(errors="backslashreplace").decode()
            yield Fault(f"{kind} `{shown}`", "the name is not valid UTF-8", "Rename its files")
        elif name in ("", ".", "..") or any(separator in name for separator in _SEPARATORS):
            problem = (
                "the name is empty" if not name else "the name is a path, and files of this name would lie in another folder"
            )
            yield Fault(f"{kind} `{name}`", problem, "Use a name without slashes")


def _is_text(name: str) -> bool:
    """Return whether a name can be written in UTF-8; names of files may hold any bytes."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def file_faults(*paths: Path) -> Iterator[Fault]:
    """Yield a fault for each path at which a file cannot be written. Its folders need not exist."""
    for path in paths:
        if path.is_dir():
            yield Fault(str(path), "the output is a file, but this is a folder", "Give the path of a file, or remove the folder")
        elif path.exists() and not path.is_file():
            yield Fault(str(path), "the output would replace something that is not a regular file", "Give the path of a file")
    for folder in dict.fromkeys(path.parent for path in paths):
        yield from folder_faults(folder)


def folder_faults(folder: Path) -> Iterator[Fault]:
    """Yield a fault if files cannot be written into this folder. It need not exist."""
    try:
        place = _nearest(folder)
        if not place.is_dir():
            yield Fault(str(folder), f"the output is a folder, but {place} is not", "Choose another output folder")
            return
        with tempfile.TemporaryFile(dir=place):
            pass
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        yield Fault(str(folder), f"nothing can be written there ({reason})", "Choose another output, or change its permissions")


_held: set[int] = set()  # descriptors of the folders that this process holds


@contextmanager
def held(folder: Path, *, to_read: bool = False) -> Iterator[None]:
    """Hold a folder while the block runs, so that no two processes work in it. The lock ends with the process.

    Those that hold it only `to_read` may be several at a time. Nothing is held where the folder does not exist yet, or the file system has
    no locks.

    Raises:
        InputError: another process holds the folder.
    """
    descriptor = _hold(folder, to_read)
    try:
        yield
    finally:
        if descriptor in _held:
            _let_go(descriptor)


def _hold(folder: Path, to_read: bool) -> int:
    """Return the descriptor of a folder that is now held, or -1."""
    if fcntl is None or not folder.is_dir():
        return -1
    descriptor = os.open(folder, os.O_RDONLY)
    _held.add(descriptor)
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if to_read else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        _let_go(descriptor)
        raise InputError(Fault(str(folder), "another process is working in it", "Wait until it has ended, or end it")) from None
    except OSError:
        _let_go(descriptor)
        return -1
    return descriptor


def _let_go(descriptor: int) -> None:
    _held.discard(descriptor)
    os.close(descriptor)


def _let_go_of_all() -> None:
    for descriptor in set(_held):
        _let_go(descriptor)


if fcntl is not None:  # else workers that outlive their process for a moment would hold its folders
    os.register_at_fork(after_in_child=_let_go_of_all)


def _nearest(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that exists."""
    for place in (folder, *folder.parents):
        try:
            place.lstat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        return place
    return Path()
