"""One reader against many mutated files, in a process of its own: whatever ends or stops that process is a finding as well."""

import faulthandler
import mmap
import os
import random
import resource
import shutil
import signal
import struct
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from configs.errors import InputError
from tests.fuzz.targets import Target

ROOM = 512 * 2**20  # bytes of address space that a reader may take for a file of some thousand bytes
PATIENCE = 20.0  # seconds for one file
_LOOK = 0.02
_FORM = "<qqq"  # shared with the child: input being read, accepted, refused


@dataclass
class Findings:
    """What came of the inputs of one target.

    Attributes:
        inputs: that were read.
        accepted: without an error.
        bytes: of all of them.
        violations: what is wrong -> how often.
        examples: what is wrong -> number of the input that showed it first.
    """

    inputs: int = 0
    accepted: int = 0
    bytes: int = 0
    violations: Counter[str] = field(default_factory=Counter)
    examples: dict[str, int] = field(default_factory=dict)

    def add(self, violation: str, number: int) -> None:
        """Count a violation, and keep its first input."""
        self.violations[violation] += 1
        self.examples.setdefault(violation, number)


def hunt(target: Target, corpus: Sequence[bytes], inputs: int, seed: int, folder: Path) -> Findings:
    """Read `inputs` mutated files; after a crash or a hang, go on behind the file that caused it.

    Args:
        target: the reader.
        corpus: sound files.
        inputs: how many.
        seed: of the mutations: each input depends on it and on its number alone.
        folder: for the files; emptied again and again.
    """
    findings, first = Findings(), 0
    while first < inputs:
        with mmap.mmap(-1, struct.calcsize(_FORM)) as shared:
            shared[:] = struct.pack(_FORM, first, 0, 0)
            log = folder.with_suffix(".log")
            process = os.fork()
            if process == 0:
                _read_all(target, corpus, range(first, inputs), seed, folder, shared, log)
            ending = _wait(process, shared)
            current, accepted, read = struct.unpack(_FORM, shared[:])
        findings.accepted += accepted
        findings.inputs += read
        collect(findings, log)
        if ending is None:
            break
        findings.inputs += 1
        findings.add(ending, current)
        first = current + 1
    findings.bytes = sum(len(make_input(target, corpus, seed, number)) for number in range(0, inputs, 50)) * 50
    return findings


def make_corpus(target: Target, folder: Path) -> list[bytes]:
    """The target's sound files, made in another process: libraries that start threads must not have done so before a fork."""
    folder.mkdir()
    process = os.fork()
    if process == 0:
        try:
            (folder / "work").mkdir()
            for number, content in enumerate(target.corpus(folder / "work")):
                (folder / f"{number:03d}").write_bytes(content)
            os._exit(0)
        except BaseException:  # noqa: BLE001 - the child must not go on with the parent's work
            traceback.print_exc()
        finally:
            os._exit(1)
    if os.waitpid(process, 0)[1] != 0:
        raise RuntimeError(f"{target.name}: the sound files cannot be made")
    return [path.read_bytes() for path in sorted(folder.glob("[0-9]*"))]


def make_input(target: Target, corpus: Sequence[bytes], seed: int, number: int) -> bytes:
    """The file of this number."""
    chance = random.Random(f"{seed} {target.name} {number}")
    return target.mutate(chance.choice(corpus), corpus, chance)


def judge(target: Target, path: Path) -> str | None:
    """Read one file. Returns what is wrong with how that ended, or None; "" where it was accepted."""
    try:
        target.read(path)
    except InputError as error:
        return _judge_message(error, path)
    except BaseException as error:  # noqa: BLE001 - that is what is looked for
        return _where(error)
    return ""


def _judge_message(error: InputError, path: Path) -> str | None:
    """A refusal must name the file (or the case, or what in it), and not come from a lack of memory."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MemoryError) or "bad_alloc" in str(cause) or "Unable to allocate" in str(cause):
            return f"more memory than the file can justify: {_place_of(cause)}"
        cause = cause.__cause__ or cause.__context__
    if not error.faults or any(not fault.where or not fault.problem for fault in error.faults):
        return "a refusal without a reason"
    if any("\n" in fault.where for fault in error.faults) or len(str(error)) > 200_000:
        return "a message that is no line"
    return None


def _where(error: BaseException) -> str:
    return f"{type(error).__name__} in {_place_of(error)}: {' '.join(str(error).split())[:80]}"


def _place_of(error: BaseException) -> str:
    """The last line of ours that the error came through."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "site-packages" not in frame.filename]
    return f"{Path(frames[-1].filename).name}:{frames[-1].name}" if frames else "a library"


def _read_all(
    target: Target, corpus: Sequence[bytes], numbers: range, seed: int, folder: Path, shared: mmap.mmap, log: Path
) -> None:
    """What the child does, never to return."""
    try:
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        faulthandler.disable()
        warnings.simplefilter("ignore")
        limit = address_space() + ROOM
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, ROOM))
        accepted = 0
        for read, number in enumerate(numbers):
            shared[:] = struct.pack(_FORM, number, accepted, read)
            path = folder / target.file
            empty(folder)
            content = make_input(target, corpus, seed, number)
            path.write_bytes(content)
            found = judge(target, path)
            accepted += found == ""
            if found:
                os.write(handle, f"{number} {found}\n".encode("utf-8", "replace"))
        shared[:] = struct.pack(_FORM, numbers.stop, accepted, len(numbers))
        os._exit(0)
    except BaseException:  # noqa: BLE001 - the child must not go on with the parent's work
        os.write(handle, f"-1 the fuzzer itself: {traceback.format_exc()[-300:]!r}\n".encode())
        os._exit(0)
    finally:
        os._exit(3)


def _wait(process: int, shared: mmap.mmap) -> str | None:
    """Wait for the child. Returns how it ended where it did not end by itself."""
    current, since = -1, time.monotonic()
    while True:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            return None if code == 0 else f"the interpreter ends with {_name(code)}"
        number = struct.unpack(_FORM, shared[:])[0]
        if number != current:
            current, since = number, time.monotonic()
        elif time.monotonic() - since > PATIENCE:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            return f"it hangs for more than {PATIENCE:.0f} s"
        time.sleep(_LOOK)


def collect(findings: Findings, log: Path) -> None:
    """Add what a child has written, a line for each violation."""
    for line in log.read_text(errors="replace").splitlines():
        number, _, violation = line.partition(" ")
        findings.add(violation, int(number))


def empty(folder: Path) -> None:
    """Remove everything in a folder."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()


def _name(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"code {code}"


def address_space() -> int:
    """Bytes that this process has mapped."""
    if sys.platform != "linux":
        return 2**40
    return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
