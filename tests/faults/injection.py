"""Inject a fault into a running command. A forked child prepares the fault before it runs the command.

Python calls an audit hook before every opening, renaming, listing and deletion of a file. In this hook the process can be killed, a disk
can be removed, and an error can be raised as if the system had returned it.
"""

import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.faults.disk import Disk

_EVENTS = frozenset(
    ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.listdir", "os.scandir", "os.chmod", "shutil.rmtree")
)


@dataclass(frozen=True)
class Injection:
    """One fault.

    Attributes:
        kind: kind of fault, one of `KINDS`.
        moment: time of the fault as a share of the run, from 0 to 1; for limits, share of what an undisturbed run needs.
        number: errno, signal, or number of seconds, for the kinds that have one.
    """

    kind: str
    moment: float
    number: int = 0


@dataclass(frozen=True)
class Extent:
    """Time, file operations, disk space and memory of an undisturbed run.

    Attributes:
        seconds: duration in seconds.
        events: number of file events in the observed folder.
        bytes: number of bytes that the run adds to the output.
        memory: number of bytes by which the run enlarges the address space.
    """

    seconds: float
    events: int
    bytes: int
    memory: int


@dataclass(frozen=True)
class Event:
    """A file is about to be opened, renamed, listed or deleted.

    Attributes:
        number: number of the event, from 1.
        path: path to the file.
    """

    number: int
    path: str


def count_events(place: Path) -> list[int]:
    """Count the file events of this process in a folder. Returns a list whose only element is the current number."""
    count = [0]

    def add(event: Event) -> None:
        count[0] = event.number

    _at_events(place, add)
    return count


def arm(injection: Injection, extent: Extent, place: Path, source: Disk, target: Disk) -> None:
    """Prepare a fault in this process.

    Args:
        injection: fault to inject.
        extent: extent of the undisturbed run.
        place: observed folder, which contains both disks.
        source: disk of the input.
        target: disk of the output.
    """
    at = 1 + int(injection.moment * extent.events)
    if injection.kind == "memory limit":
        room = _address_space() + int(injection.moment * extent.memory)
        resource.setrlimit(resource.RLIMIT_AS, (room, room))
    elif injection.kind == "file size limit":
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # as Python does when it starts
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(injection.moment * extent.bytes / 4),) * 2)
    elif injection.kind == "clock jump":
        _let_the_clock_jump(float(injection.number))
    elif injection.kind in _AT_EVENTS:
        _at_events(place, lambda event: _AT_EVENTS[injection.kind](event, at, injection, source, target))


def _kill(event: Event, at: int, injection: Injection, source: Disk, target: Disk) -> None:
    if event.number == at:
        os.kill(os.getpid(), signal.SIGKILL)


def _signal(event: Event, at: int, injection: Injection, source: Disk, target: Disk) -> None:
    if event.number == at:
        os.kill(os.getpid(), injection.number)


def _fail(event: Event, at: int, injection: Injection, source: Disk, target: Disk) -> None:
    if event.number == at:
        raise OSError(injection.number, os.strerror(injection.number), event.path)


def _stay_failing(event: Event, at: int, injection: Injection, source: Disk, target: Disk) -> None:
    if event.number >= at:
        raise OSError(injection.number, os.strerror(injection.number), event.path)


def _make_read_only(event: Event, at: int, injection: Injection, source: Disk, target: Disk) -> None:
    if event.number >= at and not _done:
        _done.extend([True] * target.make_read_only())


def _vanish(event: Event, at: int, injection: Injection, source: Disk, target: Disk) -> None:
    if event.number >= at and not _done:
        _done.extend([True] * source.vanish())


def _slow_down(event: Event, at: int, injection: Injection, source: Disk, target: Disk) -> None:
    time.sleep(1.5 if event.number == at else 0.005)


_done: list[bool] = []  # not empty after the fault, for faults that happen once in a process
_AT_EVENTS: dict[str, Callable[[Event, int, Injection, Disk, Disk], None]] = {
    "kill at a file event": _kill,
    "signal": _signal,
    "I/O error": _fail,
    "I/O errors from then on": _stay_failing,
    "becomes read-only": _make_read_only,
    "input vanishes": _vanish,
    "slow disk": _slow_down,
}
_ELSEWHERE = ("kill", "worker killed", "disk full", "file size limit", "read-only", "memory limit", "clock jump", "time stamps")
KINDS = (*_AT_EVENTS, *_ELSEWHERE)


def _at_events(place: Path, act: Callable[[Event], None]) -> None:
    """Call `act` before each file event in a folder, until the process ends."""
    prefix, number, owner = str(place), [0], os.getpid()

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event not in _EVENTS or os.getpid() != owner or not isinstance(arguments[0], str | os.PathLike):
            return
        if str(arguments[0]).startswith(prefix):
            number[0] += 1
            act(Event(number[0], str(arguments[0])))

    sys.addaudithook(hook)


def _let_the_clock_jump(seconds: float) -> None:
    """Let the wall clock of this process jump forth and back after every third reading."""
    real, looks = time.time, [0]

    def jumping() -> float:
        looks[0] += 1
        return real() + (seconds if looks[0] // 3 % 2 else 0)

    time.time = jumping


def _address_space() -> int:
    """Return the number of bytes of address space that this process uses."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
