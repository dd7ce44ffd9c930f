"""Run a command in a forked process, whose modules are already imported, and end it if it takes too long."""

import atexit
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

_LOOK = 0.005  # seconds between two checks of the child
_ORPHANS = 60.0  # seconds that a process may outlive the command that started it; a busy machine needs many


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        code: exit code, negative for a signal; None if the command had to be ended.
        seconds: duration of the run.
        text: text on standard output and standard error.
        orphans: number of remaining processes that had to be ended.
    """

    code: int | None
    seconds: float
    text: str
    orphans: int


def run_forked(
    words: Sequence[str],
    main: Callable[[], int],
    log: Path,
    limit: float,
    before: Callable[[], object] = lambda: None,
    after: Callable[[], object] = lambda: None,
    during: Callable[[int, float], object] = lambda process, seconds: None,
) -> Ended:
    """Run a command's function in a forked process, as its program would run it.

    Args:
        words: command line; the first word is the command's name.
        main: function of the command, which returns the exit code.
        log: file for the output of the command.
        limit: number of seconds after which the command is ended.
        before: function that is called in the child before the command.
        after: function that is called in the child after a command that ended by itself.
        during: function that is called repeatedly in this process, with the child's process number and its age in seconds.
    """
    start = time.monotonic()
    process = os.fork()
    if process == 0:
        _be_the_command(words, main, log, before, after)
    code: int | None = None
    while time.monotonic() - start < limit:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            break
        during(process, time.monotonic() - start)
        time.sleep(_LOOK)
    else:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
    seconds = time.monotonic() - start
    return Ended(code, seconds, log.read_text(errors="replace"), _end_orphans(process))


def descendants(process: int) -> list[psutil.Process]:
    """Return the worker processes of a command, without the trackers of resources."""
    try:
        found = psutil.Process(process).children(recursive=True)
        return [child for child in found if "resource_tracker" not in " ".join(child.cmdline())]
    except psutil.Error:
        return []


def as_program(main: Callable[[], int]) -> int:
    """Run a command's function, and everything that the interpreter runs at its end. Returns the exit code."""
    code = _as_interpreter(main)
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    return code


def _be_the_command(
    words: Sequence[str], main: Callable[[], int], log: Path, before: Callable[[], object], after: Callable[[], object]
) -> None:
    """Run the command in the child, and end the child."""
    code = 1
    try:
        os.setsid()
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.argv = list(words)
        before()
        code = as_program(main)
        after()
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:  # noqa: BLE001 - the child must not continue the parent's work
        traceback.print_exc()
    finally:
        os._exit(code)


def _as_interpreter(main: Callable[[], int]) -> int:
    """Return the exit code, and print the traceback of an exception, as the interpreter would."""
    try:
        return main()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 1
    except BaseException as error:  # noqa: BLE001 - reported as the interpreter would
        traceback.print_exc()
        return 130 if isinstance(error, KeyboardInterrupt) else 1


def _end_orphans(session: int) -> int:
    """Wait for the processes that a command started, and end those that remain. Returns the number of these."""
    end = time.monotonic() + _ORPHANS
    while alive := _of_session(session):
        if time.monotonic() > end:
            for process in alive:
                process.kill()
            return len(alive)
        time.sleep(0.05)
    return 0


def _of_session(session: int) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.Error, ProcessLookupError):
            continue
    return found
