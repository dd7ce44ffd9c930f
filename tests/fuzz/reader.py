"""Run a reader of files in a process of its own, and check the rules that it must keep for every file."""

import faulthandler
import os
import resource
import shutil
import signal
import traceback
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType

from configs.errors import InputError
from tests.faults.server import CONTEXT

ROOM = 512 * 2**20  # bytes of address space that a reader may use for a file of some thousand bytes
PATIENCE = 20.0  # seconds that a reader may take for one file


class Reader:
    """A process that reads one file after the other. It is restarted after a crash or a timeout.

    Args:
        read: function of a module that reads the file at a path. It may raise `InputError`.
        path: path to the file. Its folder is emptied before each file, and keeps the files of the last one.
    """

    def __init__(self, read: Callable[[Path], object], path: Path) -> None:
        self._read, self._path = read, path
        self.__exit__()

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        """End the process."""
        if getattr(self, "_process", None) is not None:
            self._process.kill()
            self._process.join()
            self._connection.close()
        self._process = None

    def judge(self, content: bytes) -> str | None:
        """Read a file of this content. Returns the rule that was broken, None if the file was refused, or "" if it was read."""
        self._path.parent.mkdir(exist_ok=True)
        empty(self._path.parent)
        self._path.write_bytes(content)
        if self._process is None:
            self._connection, other = CONTEXT.Pipe()
            self._process = CONTEXT.Process(target=_serve, args=(self._read, self._path, other), daemon=True)
            self._process.start()
            other.close()
            self._connection.recv()
        self._connection.send(None)
        try:
            if self._connection.poll(PATIENCE):
                return self._connection.recv()
            found = f"it hangs for more than {PATIENCE:.0f} s"
        except EOFError:
            self._process.join()
            found = f"the interpreter ends with {_name(self._process.exitcode)}"
        self.__exit__()
        return found


def judge(read: Callable[[Path], object], path: Path) -> str | None:
    """Read a file in this process. Returns the same as `Reader.judge`."""
    try:
        read(path)
    except InputError as error:
        return _judge_message(error)
    except BaseException as error:  # noqa: BLE001 - any other exception breaks a rule
        return f"{type(error).__name__} in {_place_of(error)}: {' '.join(str(error).split())[:80]}"
    return ""


def empty(folder: Path) -> None:
    """Delete the content of a folder."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()


def limit_memory(room: int) -> None:
    """Limit the address space of this process to `room` more bytes than it uses now."""
    limit = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE") + room
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _serve(read: Callable[[Path], object], path: Path, connection: Connection) -> None:
    """Read the file at each request and answer with the result of `judge`, without any output."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    faulthandler.disable()
    warnings.simplefilter("ignore")
    limit_memory(ROOM)
    resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, ROOM))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    connection.send(None)
    while True:
        connection.recv()
        connection.send(judge(read, path))


def _judge_message(error: InputError) -> str | None:
    """Check that a refusal names a place and a problem, and that its cause is not a lack of memory."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MemoryError) or "bad_alloc" in str(cause) or "Unable to allocate" in str(cause):
            return f"more memory than the file can justify: {_place_of(cause)}"
        cause = cause.__cause__ or cause.__context__
    if not error.faults or any(not fault.where or not fault.problem for fault in error.faults):
        return "a refusal without a reason"
    if not all(str(fault).isprintable() for fault in error.faults) or len(str(error)) > 200_000:
        return "a message with control characters, or a very long one"
    return None


def _place_of(error: BaseException) -> str:
    """Return the last of our functions that the exception passed through."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "site-packages" not in frame.filename]
    return f"{Path(frames[-1].filename).name}:{frames[-1].name}" if frames else "a library"


def _name(code: int | None) -> str:
    return signal.Signals(-code).name if code is not None and code < 0 else f"code {code}"
