"""Processes that fork from a server, which has imported all modules once: they start at once, and share no state with the tests.

A process has one such server, so every test that starts processes shares this context.
"""

import multiprocessing
import os
import sys
from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path

from tests.faults.child import as_program

CONTEXT = multiprocessing.get_context("forkserver" if sys.platform != "win32" else "spawn")
if sys.platform != "win32":
    CONTEXT.set_forkserver_preload(["tests.faults.preload"])


def run_command(words: Sequence[str], log: Path, limit: float) -> int | None:
    """Run an installed command in a process of its own.

    Args:
        words: command line; the first word is the command's name.
        log: file for the output of the command.
        limit: number of seconds after which the command is ended.

    Returns:
        The exit code, negative for a signal; None if the command had to be ended.
    """
    process = CONTEXT.Process(target=_be_the_command, args=(list(words), log))  # type: ignore[attr-defined]
    process.start()
    process.join(limit)
    code: int | None = process.exitcode
    process.kill()
    process.join()
    process.close()
    return code


def _be_the_command(words: list[str], log: Path) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    with log.open("w") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
    sys.argv = words
    (command,) = entry_points(group="console_scripts", name=words[0])
    code = as_program(command.load())
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
