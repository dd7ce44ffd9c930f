"""Record which case each worker process is working on and how much memory it takes, to name the case if the worker is killed.

A worker writes a small file when it starts a case and deletes it at the end, even if the case fails. Files that are left after a
worker died name the cases in flight.
"""

import json
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from preprocessing.parallel.memory import available_bytes

_PARENT_SECONDS = 1.0  # between checks of the parent process
_watched: list[int] = []  # parents that this process watches


def end_with(parent: int) -> None:
    """Make a worker exit within seconds after its parent process, which has this identifier, died. Repeated calls have no effect.

    Nothing happens if another process started this one.
    """
    if os.name != "posix" or parent in _watched or os.getppid() != parent:
        return
    _watched.append(parent)
    threading.Thread(target=_follow, args=(parent,), daemon=True).start()


def _follow(parent: int) -> None:
    """Wait until the system assigns another parent, which means that the parent died, and exit."""
    while os.getppid() == parent:
        time.sleep(_PARENT_SECONDS)
    os._exit(1)


_SECONDS = 0.25  # between measurements of the workers' memory


@dataclass(frozen=True)
class InFlight:
    """A case that was being processed when a worker died."""

    identifier: str  # case identifier
    process: int  # identifier of the process that worked on it
    memory: int | None  # memory of that process in bytes when last measured; None if it was not measured
    available: int | None  # available memory in bytes at that time, or None

    def __str__(self) -> str:
        if self.memory is None or self.available is None:
            return f"`{self.identifier}` (process {self.process})"
        return (
            f"`{self.identifier}` (process {self.process}, at {self.memory / 1e6:.0f} MB when last measured, "
            f"with {self.available / 1e6:.0f} MB available)"
        )


@contextmanager
def marking(folder: Path | None, identifier: str) -> Iterator[None]:
    """Mark the case as in flight while the block runs in a worker. Without a folder, nothing is written."""
    if folder is None:
        yield
        return
    content = json.dumps({"identifier": identifier, "process": os.getpid()})
    handle, name = tempfile.mkstemp(dir=folder, suffix=".case")
    with os.fdopen(handle, "w", encoding="utf-8") as marker:
        marker.write(content)
    try:
        yield
    finally:
        Path(name).unlink(missing_ok=True)


class Watch:
    """Measures, in a thread of the parent process, the memory of the workers that marked a case in `folder`."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._memory: dict[int, tuple[int, int]] = {}  # process -> its memory and the available memory, in bytes
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stopped.set()
        self._thread.join()

    def in_flight(self) -> list[InFlight]:
        """Return the cases that are marked now."""
        found = []
        for identifier, process in self._marked():
            memory, available = self._memory.get(process, (None, None))
            found.append(InFlight(identifier, process, memory, available))
        return sorted(found, key=lambda case: case.identifier)

    def clear(self) -> None:
        """Delete all marks after the workers have died."""
        for path in self._folder.glob("*.case"):
            path.unlink(missing_ok=True)

    def _marked(self) -> list[tuple[str, int]]:
        marked = []
        for path in self._folder.glob("*.case"):
            with suppress(OSError, ValueError):  # the file is being written or deleted
                content = json.loads(path.read_text(encoding="utf-8"))
                marked.append((str(content["identifier"]), int(content["process"])))
        return marked

    def _follow(self) -> None:
        while not self._stopped.wait(_SECONDS):
            available = available_bytes()
            for _, process in self._marked():
                with suppress(psutil.Error):
                    self._memory[process] = (int(psutil.Process(process).memory_info().rss), available)
