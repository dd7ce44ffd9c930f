"""What every command shares: exit codes, one line per fault, logging, progress bars."""

import argparse
import logging
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from configs.run_log import RunLog

T = TypeVar("T")
_PACKAGES = ("configs", "se_unet", "preprocessing", "planners", "inference", "trainers")
_logs: list["RunLog"] = []  # of the run: one, or none
DONE, FAILED, WRONG_INPUT, INTERRUPTED = 0, 1, 2, 130


def run(command: Callable[[argparse.Namespace], int | None], parser: argparse.ArgumentParser) -> int:
    """Parse the command line and run the command. Returns the exit code: 0 done, 2 wrong input, 1 anything else."""
    add_verbosity(parser)
    arguments = parser.parse_args()
    start_logging(arguments)
    code = FAILED
    try:
        code = _outcome(command, arguments, parser.prog)
    finally:
        while _logs:
            _end_log(_logs.pop(), code)
    return code


def _outcome(command: Callable[[argparse.Namespace], int | None], arguments: argparse.Namespace, program: str) -> int:
    """The command's exit code, with errors told."""
    from configs.errors import InputError  # pydantic-free, but `configs` is imported only when work starts

    try:
        return command(arguments) or DONE
    except InputError as error:
        faults = [str(fault) for fault in error.faults]
        print_faults(program, faults)
        for log in _logs:
            log.note("\n".join(["faults in the input:", *faults]))
        return WRONG_INPUT
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        logging.getLogger(program).debug("traceback", exc_info=True)
        kept = [log.path for log in _logs if log.path.is_file()]
        for log in _logs:
            log.note(traceback.format_exc())
        where = f"traceback in {kept[0]}" if kept else "run again with --verbose for the traceback"
        print(f"{program}: {type(error).__name__}: {error} ({where})", file=sys.stderr)
        return FAILED


def keep_log(folder: Path, **details: str) -> None:
    """Keep a log file of this run in `folder`, from when the work has made it; see `configs.run_log`.

    Args:
        folder: of what the run makes.
        details: noted at the top.
    """
    from configs.run_log import RunLog

    log = RunLog(folder, sys.argv, details)
    _logs.append(log)
    for name in _PACKAGES:
        logging.getLogger(name).addHandler(log)


def _end_log(log: "RunLog", code: int) -> None:
    for name in _PACKAGES:
        logging.getLogger(name).removeHandler(log)
    log.end(code)


def print_faults(program: str, faults: list[str]) -> None:
    """Write one line per fault to standard error."""
    heading = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
    print(f"{program}: {heading} in the input", file=sys.stderr)
    for fault in faults:
        print(f"  - {fault}", file=sys.stderr)


def add_verbosity(parser: argparse.ArgumentParser, **settings: Any) -> None:
    """Add --verbose and --quiet, which every command has.

    Args:
        parser: of the command; or of one of its actions, with `default=argparse.SUPPRESS`, so that they may stand on either side
            of the action's name.
        settings: of both options.
    """
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--verbose", action="store_true", help="show details and tracebacks", **settings)
    choice.add_argument("--quiet", action="store_true", help="show warnings and errors only", **settings)


def start_logging(arguments: argparse.Namespace) -> None:
    """Send log records to standard error, as many as are wanted there; and all of them to a log file, where one is kept."""
    level = logging.DEBUG if arguments.verbose else logging.WARNING if arguments.quiet else logging.INFO
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.StreamHandler) and handler.stream is sys.stderr:
            handler.setLevel(level)
    for name in _PACKAGES:
        logging.getLogger(name).setLevel(logging.DEBUG)
    if arguments.verbose:
        logging.getLogger(arguments_program()).setLevel(logging.DEBUG)


def arguments_program() -> str:
    """Name of the running command."""
    return Path(sys.argv[0]).name


class Bar:
    """Progress on standard error: a bar with the time left in a terminal, plain lines elsewhere."""

    def __init__(self, quiet: bool = False):
        self._quiet = quiet
        self._note = ""

    def note(self, text: str) -> None:
        """Show a short text beside the bar."""
        self._note = text

    def track(self, items: Iterable[T], description: str, total: int) -> Iterator[T]:
        """Yield the items, showing how many of `total` are done and how long the rest may take."""
        if self._quiet:
            yield from items
        elif sys.stderr.isatty():
            yield from self._bar(items, description, total)
        else:
            yield from self._lines(items, description, total)

    def _bar(self, items: Iterable[T], description: str, total: int) -> Iterator[T]:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        with Progress(*columns, console=Console(stderr=True)) as progress:
            task = progress.add_task(description, total=total, note="")
            for item in items:
                yield item
                progress.update(task, advance=1, note=self._note)

    def _lines(self, items: Iterable[T], description: str, total: int) -> Iterator[T]:
        import time

        start = shown = time.monotonic()
        for done, item in enumerate(items, start=1):
            yield item
            now = time.monotonic()
            if done == total or now - shown > 10:
                shown = now
                left = (now - start) / done * (total - done)
                print(f"{description}: {done}/{total}, {left:.0f} s left  {self._note}".rstrip(), file=sys.stderr, flush=True)
