"""Inject one fault into one command, check the files that remain, and run the command again."""

import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from configs.files import PARTIAL
from tests.faults.child import Ended, descendants, run_forked
from tests.faults.commands import Command
from tests.faults.disk import Disk
from tests.faults.injection import Extent, Injection, arm, count_events
from tests.faults.judge import broken_files, contents, differences, is_partial

_ENDED_BY_SIGNAL = {
    signal.SIGTERM: {-signal.SIGTERM, 130, 128 + signal.SIGTERM, 1},
    signal.SIGINT: {130, 128 + signal.SIGINT, 1},
    signal.SIGUSR1: {-signal.SIGUSR1, 128 + signal.SIGUSR1},
}
_SURVIVED = {"slow disk", "clock jump", "time stamps"}  # kinds that must have no effect on a command
_KILLS = {"kill", "kill at a file event"}
_LIMIT = 60.0  # seconds beyond twenty times the duration of the undisturbed run


@dataclass(frozen=True)
class Outcome:
    """Result of one fault.

    Attributes:
        command: name of the command.
        kind, moment, number: fields of the `Injection`.
        code: exit code of the run with the fault; None if the run had to be ended.
        seconds: duration of both runs.
        message: last line that the run with the fault printed.
        violations: requirements that did not hold, in words.
    """

    command: str
    kind: str
    moment: float
    number: int
    code: int | None
    seconds: float
    message: str
    violations: tuple[str, ...]

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Outcome":
        """Return the outcome from the plain data of `as_json`."""
        return cls(**(data | {"violations": tuple(data["violations"])}))

    def as_json(self) -> dict[str, Any]:
        """Return the outcome as plain data."""
        return asdict(self)


class Bench:
    """Runs one command repeatedly, each time from the same files.

    Args:
        command: command to run.
        folder: folder for all files.
        mounts: whether disks are file systems, as in `Disk`.

    Attributes:
        extent: extent of the undisturbed run.
        expected: digests of the files that the undisturbed run writes.
    """

    def __init__(self, command: Command, folder: Path, mounts: bool):
        self.command = command
        self._folder, self._mounts = folder, mounts
        self._place = folder / "place"
        self._seeds = folder / "seeds"
        with self._disks(filled=False) as (source, target):
            self._checked(["prepare"], lambda: command.prepare(source.folder, target.folder))
            shutil.copytree(source.folder, self._seeds / "input", symlinks=True)
            shutil.copytree(target.folder, self._seeds / "output", symlinks=True)
        with self._disks() as (source, target):
            self.extent = self._measure(source, target)
            self.expected = contents(target.folder)

    def _measure(self, source: Disk, target: Disk) -> Extent:
        """Run the command without a fault."""
        note = self._folder / "extent"
        counted: list[list[int]] = []

        def write_note() -> None:
            mapped = Path("/proc/self/status").read_text()
            peak = next(int(line.split()[1]) for line in mapped.splitlines() if line.startswith("VmPeak"))
            note.write_text(f"{counted[0][0]} {peak * 1024 - start[0]}")

        start = [0]

        def begin() -> None:
            start[0] = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
            counted.append(count_events(self._place))

        before = target.used()
        words = self.command.words(source.folder, target.folder)
        ended = run_forked(words, self.command.main, self._folder / "log", 300, begin, write_note)
        if ended.code != 0:
            raise RuntimeError(f"{self.command.name} without a fault ends with {ended.code}: {ended.text}")
        events, memory = map(int, note.read_text().split())
        return Extent(ended.seconds, events, target.used() - before, memory)

    def meet(self, injection: Injection) -> Outcome:
        """Run the command with a fault, check the files that remain, remove the fault, run again, and compare the results."""
        with self._disks() as (source, target):
            room = target.used() + int(injection.moment * self.extent.bytes)
            if injection.kind == "time stamps":
                _shift_times(source.folder, injection.number)
            if injection.kind == "disk full":
                target.limit(room)
            elif injection.kind == "read-only":
                target.make_read_only()
            first = self._run(injection, source, target)
            source, target = self._healed(injection, source, target)
            violations = self._judge_first(injection, first, target)
            again = self._rerun(source, target)
            violations += self._judge_again(again, target)
        seconds = first.seconds + again.seconds
        message = (first.text.strip().splitlines() or [""])[-1]
        fault = (injection.kind, injection.moment, injection.number)
        return Outcome(self.command.name, *fault, first.code, seconds, message[:500], tuple(violations))

    def _run(self, injection: Injection, source: Disk, target: Disk) -> Ended:
        prepare = partial(arm, injection, self.extent, self._place, source, target)
        moment, struck = injection.moment * self.extent.seconds, [False]

        def during(process: int, age: float) -> None:
            if struck[0] or age < moment:
                return
            if injection.kind == "kill":
                os.kill(process, signal.SIGKILL)
                struck[0] = True
            elif injection.kind == "worker killed":
                for worker in descendants(process)[:1]:
                    with contextlib.suppress(Exception):
                        worker.kill()
                        struck[0] = True

        words = self.command.words(source.folder, target.folder)
        limit = 20 * self.extent.seconds + _LIMIT
        return run_forked(words, self.command.main, self._folder / "log", limit, prepare, during=during)

    def _healed(self, injection: Injection, source: Disk, target: Disk) -> tuple[Disk, Disk]:
        """Repair both disks. An input that has disappeared is written to a new disk."""
        target.heal()
        if injection.kind != "input vanishes":
            return source, target
        source.close()
        source.__init__(source.folder, self._mounts)  # type: ignore[misc]
        source.fill_from(self._seeds / "input")
        return source, target

    def _rerun(self, source: Disk, target: Disk) -> Ended:
        words = self.command.again(source.folder, target.folder)
        return run_forked(words, self.command.main, self._folder / "log", 20 * self.extent.seconds + _LIMIT)

    def _judge_first(self, injection: Injection, first: Ended, target: Disk) -> list[str]:
        violations = []
        if first.code is None:
            violations.append("it hangs")
        elif first.code not in _allowed_codes(injection):
            violations.append(f"it ends with {first.code}")
        if "Traceback (most recent call last)" in first.text:
            violations.append("it prints a traceback")
        if first.code in (1, 2) and not any(line.startswith(("se_", "  - ", "case `")) for line in first.text.splitlines()):
            violations.append("it says nothing of the failure")
        if first.orphans:
            violations.append(f"{first.orphans} of its processes stay behind")
        violations += [f"half-written: {name}" for name in broken_files(target.folder)]
        told = injection.kind == "input vanishes" and self.command.tells is not None and self.command.tells in first.text
        if first.code == 0 and not told:
            violations += [
                f"it says that all is done, but {what}" for what in differences(contents(target.folder), self.expected)
            ]
        return violations

    def _judge_again(self, again: Ended, target: Disk) -> list[str]:
        whole = self.command.produces
        is_there = whole is not None and again.code == 2 and "already exists" in again.text
        violations = [] if again.code == 0 or is_there else [f"the rerun ends with {again.code}: {again.text[-800:]}"]
        violations += [f"after the rerun, {what}" for what in differences(contents(target.folder), self.expected)]
        if self.command.name.startswith(("preprocess", "train")):
            left = [path for path in target.folder.rglob("*") if path.is_file() and is_partial(path, target.folder)]
            violations += [
                f"after the rerun, {path.name} is left" for path in left if "preprocessed" in str(path) or "models" in str(path)
            ]
        if self.command.name == "bundle import":
            left = list(target.folder.glob(f"{PARTIAL}*"))
            violations += [f"after the rerun, {path.name} is left" for path in left]
        return violations

    @contextlib.contextmanager
    def _disks(self, filled: bool = True) -> Iterator[tuple[Disk, Disk]]:
        """Yield the disks of input and output. Their paths are always the same, because some outputs name their inputs."""
        source, target = Disk(self._place / "input", self._mounts), Disk(self._place / "output", self._mounts)
        try:
            if filled:
                source.fill_from(self._seeds / "input")
                target.fill_from(self._seeds / "output")
            yield source, target
        finally:
            source.close()
            target.close()

    def _checked(self, words: list[str], work: Any) -> None:
        def prepare() -> int:
            work()
            return 0

        ended = run_forked(words, prepare, self._folder / "log", 300)
        if ended.code != 0:
            raise RuntimeError(f"{self.command.name} cannot be prepared: {ended.text}")


@contextlib.contextmanager
def new_folder() -> Iterator[Path]:
    """Yield a new folder for all runs. It is not a `TemporaryDirectory`, which every forked child would delete at its exit."""
    folder = Path(tempfile.mkdtemp(prefix="se-unet-faults-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _allowed_codes(injection: Injection) -> set[int]:
    if injection.kind in _SURVIVED:
        return {0}
    if injection.kind in _KILLS:
        return {0, -signal.SIGKILL}
    if injection.kind == "memory limit":  # native libraries may crash; written files must be whole even then
        return {0, 1, 2, -signal.SIGSEGV, -signal.SIGABRT}
    if injection.kind == "signal":
        return {0, *_ENDED_BY_SIGNAL[signal.Signals(injection.number)]}
    return {0, 1, 2}


def _shift_times(folder: Path, seconds: int) -> None:
    """Shift the modification time of every file, as a server with a wrong clock would."""
    for path in folder.rglob("*"):
        if path.is_file():
            time = max(0, int(path.stat().st_mtime) + seconds)
            os.utime(path, (time, time))
