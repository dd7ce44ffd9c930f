"""What goes wrong inside a running command: armed in a forked child before the command begins.

Python tells an audit hook of every opening, renaming, listing and deleting of a file before it happens. There a process can be
killed, a disk taken away, and an error raised as if the system had returned it.
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
        kind: a name of `KINDS`.
        moment: when, as a share of the run from 0 to 1, or how much, as a share of what the run takes.
        number: an errno or a signal, where the kind has one.
    """

    kind: str
    moment: float
    number: int = 0


@dataclass(frozen=True)
class Extent:
    """What an undisturbed run takes.

    Attributes:
        seconds: from beginning to end.
        events: file events under the place.
        bytes: that its output holds.
        memory: bytes of address space that it adds.
    """

    seconds: float
    events: int
    bytes: int
    memory: int


@dataclass(frozen=True)
class Event:
    """A file is about to be opened, renamed, listed or deleted.

    Attributes:
        number: of the event, from 1.
        path: of the file.
    """

    number: int
    path: str


def count_events(place: Path) -> list[int]:
    """A list of one number, which grows with every file event under `place` in this process."""
    count = [0]

    def add(event: Event) -> None:
        count[0] = event.number

    _at_events(place, add)
    return count


def arm(injection: Injection, extent: Extent, place: Path, source: Disk, target: Disk) -> None:
    """Prepare this process to meet the fault.

    Args:
        injection: the fault.
        extent: of the undisturbed run.
        place: whose files count.
        source: where the input lies.
        target: where the output goes.
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


_done: list[bool] = []  # of this process: what happens once
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
    """Call `act` at each file event under `place`. A hook stays for the life of the process."""
    prefix, number, owner = str(place), [0], os.getpid()

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event not in _EVENTS or os.getpid() != owner or not isinstance(arguments[0], str | os.PathLike):
            return
        if str(arguments[0]).startswith(prefix):
            number[0] += 1
            act(Event(number[0], str(arguments[0])))

    sys.addaudithook(hook)


def _let_the_clock_jump(seconds: float) -> None:
    """The wall clock of this process jumps every few looks at it, there and back."""
    real, looks = time.time, [0]

    def jumping() -> float:
        looks[0] += 1
        return real() + (seconds if looks[0] // 3 % 2 else 0)

    time.time = jumping


def _address_space() -> int:
    """Bytes that this process has mapped."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
