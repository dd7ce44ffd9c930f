"""Write a log file for each run into its output folder: command, machine, versions and all messages.

The log stays on the user's machine. A log that cannot be written does not stop the work.
"""

import logging
import os
import platform
import shlex
import sys
import time
from collections import deque
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TextIO

from configs.files import sha256_of

FOLDER = "logs"
UNSEEDED = "none: the run uses fixed random numbers only"
_LIBRARIES = (
    "se-unet",
    "torch",
    "numpy",
    "scipy",
    "SimpleITK",
    "nibabel",
    "blosc2",
    "pydantic",
    "safetensors",
    "batchgenerators",
)
_MOST_WAITING = 10_000  # lines


class RunLog(logging.Handler):
    """Log handler that writes `logs/<program>_<time>_<process>.log` into a folder as soon as the run has created the folder.

    Earlier lines wait, so that a run that is refused for its input leaves nothing behind. `command` has the words of the command line, and
    `details` further entries at the top of the log, name -> text.
    """

    def __init__(self, folder: Path, command: Sequence[str], details: dict[str, str] | None = None):
        super().__init__(logging.DEBUG)
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        self._folder = folder
        self._start = time.time()
        self._name = f"{Path(command[0]).stem}_{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}_{os.getpid()}.log"
        self._waiting = deque(_heading(command, details or {}), maxlen=_MOST_WAITING)
        self._file: TextIO | None = None
        self._is_broken = False

    @property
    def path(self) -> Path:
        """Path of the log file, which may not exist yet."""
        return self._folder / FOLDER / self._name

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        self.note(self.format(record))

    def note(self, text: str) -> None:
        """Write a line."""
        self._waiting.append(text)
        if self._is_broken:
            return
        try:
            if self._file is None:
                if not self._folder.is_dir():
                    return
                self.path.parent.mkdir(exist_ok=True)
                self._file = self.path.open("a", encoding="utf-8", errors="backslashreplace")
            while self._waiting:
                self._file.write(f"{self._waiting.popleft()}\n")
            self._file.flush()
        except (OSError, ValueError):  # the disk is full, or the file is already closed
            self._is_broken = True

    def end(self, code: int | str) -> None:
        """Write how the run ended, and close the file."""
        self.note(f"ended with {code} after {max(0.0, time.time() - self._start):.1f} s")
        if self._file is not None:
            try:
                self._file.close()
            except OSError:
                self._is_broken = True


def digest(path: Path) -> str:
    """Return the SHA-256 of a file, or `unreadable`."""
    try:
        with path.open("rb") as file:
            return sha256_of(file)
    except OSError:
        return "unreadable"


def digests(paths: Iterable[Path]) -> str:
    """Return paths with their SHA-256, for a log."""
    return ", ".join(f"{path}, SHA-256 {digest(path)}" for path in paths)


def _heading(command: Sequence[str], details: dict[str, str]) -> list[str]:
    from importlib.metadata import PackageNotFoundError, version

    versions = []
    for name in _LIBRARIES:
        try:
            versions.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    told = {
        "command": shlex.join([Path(command[0]).name, *command[1:]]),
        "working directory": str(Path.cwd()),
        "versions": f"Python {platform.python_version()}, {', '.join(versions)}",
        "machine": f"{platform.platform()}, {cores} cores, {_memory()}",
        "process": f"{os.getpid()}, interpreter {sys.executable}",
    }
    return [f"{name}: {text}" for name, text in (told | details).items()]


def _memory() -> str:
    try:
        return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.1f} GiB of memory"
    except (AttributeError, ValueError, OSError):  # not on Windows
        return "unknown memory"
