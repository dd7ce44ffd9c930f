"""What all commands share: exit codes, one line per fault, logging, progress bars."""

import argparse
import logging
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from configs.run_log import RunLog

T = TypeVar("T")
Command = TypeVar("Command")
_PACKAGES = ("configs", "se_unet", "preprocessing", "planners", "inference", "trainers")
_logs: list["RunLog"] = []  # the log of the current run, if it keeps one
DONE, FAILED, WRONG_INPUT, INTERRUPTED = 0, 1, 2, 130


def run(
    parser: argparse.ArgumentParser,
    read: Callable[[argparse.Namespace], Command],
    work: Callable[[Command], int | None],
) -> int:
    """Parse the command line once and do what it asks for.

    Args:
        parser: parser of the command line, without --verbose and --quiet.
        read: conversion of the parsed words to a typed command; nothing else sees the words. It raises `InputError` for wrong ones.
        work: the work itself; returns an exit code, or None for success.

    Returns:
        The exit code: 0 for success, 2 for wrong input, 130 for an interruption, 1 for any other failure.
    """
    add_verbosity(parser)
    given = parser.parse_args()
    _start_logging(parser.prog, given.verbose, given.quiet)
    code = FAILED
    try:
        code = _exit_code(lambda: work(read(given)), parser.prog)
    finally:
        while _logs:
            _end_log(_logs.pop(), code)
    return code


def _exit_code(work: Callable[[], int | None], program: str) -> int:
    """Do the work, print errors, and return the exit code."""
    from configs.errors import InputError  # keeps `--help` fast

    try:
        return work() or DONE
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


def keep_log(folder: Path, *, seeds: str | None = None, **inputs: Iterable[Path]) -> None:
    """Keep a log file of this run in the folder of its results as soon as that folder exists; see `configs.run_log`.

    Its heading has the random `seeds`, and checksums of the `inputs`, which are files by kind, such as `plan`.
    """
    from configs.run_log import UNSEEDED, RunLog, digests

    details = {kind: digests(files) for kind, files in inputs.items()}
    log = RunLog(folder, sys.argv, details | {"seeds": seeds or UNSEEDED})
    _logs.append(log)
    for name in _PACKAGES:
        logging.getLogger(name).addHandler(log)


def _end_log(log: "RunLog", code: int) -> None:
    for name in _PACKAGES:
        logging.getLogger(name).removeHandler(log)
    log.end(code)


def print_faults(program: str, faults: list[str]) -> None:
    """Print one line per fault to standard error."""
    heading = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
    print(f"{program}: {heading} in the input", file=sys.stderr)
    for fault in faults:
        print(f"  - {fault}", file=sys.stderr)


def add_image_format(parser: argparse.ArgumentParser) -> None:
    """Add --image-format, which every command that reads images has; `preprocessing.use_format` takes its value."""
    parser.add_argument("--image-format", metavar="MODULE:CLASS", help="custom image format; its code is imported and runs")


def add_device(add: Callable[..., object], of: str = "") -> None:
    """Add --device to a parser, given its method `add_argument`; `of` says what is computed there, such as `device of predictions: `."""
    add("--device", help=f"{of}cpu, cuda, cuda:1 or another device of PyTorch; default: the first CUDA device, or else the CPU")


def fill(kind: type[T], given: argparse.Namespace, /, **others: Any) -> T:
    """Make a dataclass from the options of the same names, and `others`; an option that is None or absent leaves the field's default."""
    taken = {field.name: getattr(given, field.name, None) for field in fields(kind)} | others  # type: ignore[arg-type]
    return kind(
        **{name: tuple(value) if isinstance(value, list) else value for name, value in taken.items() if value is not None}
    )


def parse_settings(texts: list[str]) -> dict[str, object]:
    """Return the training settings given by --set. Raise `InputError` for a text without `=`."""
    from configs.errors import Fault, raise_faults
    from configs.files import parse_json

    raise_faults(
        Fault(f"--set {text}", "not in the form KEY=VALUE", "Write for example --set momentum=0.95")
        for text in texts
        if "=" not in text
    )
    found: dict[str, object] = {}
    for key, _, value in (text.partition("=") for text in texts):
        try:
            found[key.strip()] = parse_json(value)
        except ValueError:
            found[key.strip()] = value
    return found


def add_verbosity(parser: argparse.ArgumentParser, **settings: Any) -> None:
    """Add the options --verbose and --quiet to a command, or to a sub-command.

    With the setting `default=argparse.SUPPRESS` of a sub-command, users may write them before or after its name.
    """
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--verbose", action="store_true", help="show details and tracebacks", **settings)
    choice.add_argument("--quiet", action="store_true", help="show warnings and errors only", **settings)


def _start_logging(program: str, verbose: bool, quiet: bool) -> None:
    """Send log records of the wanted levels to standard error; a log file gets all of them."""
    level = logging.DEBUG if verbose else logging.WARNING if quiet else logging.INFO
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.StreamHandler) and handler.stream is sys.stderr:
            handler.setLevel(level)
    for name in (*_PACKAGES, program) if verbose else _PACKAGES:
        logging.getLogger(name).setLevel(logging.DEBUG)


class Bar:
    """Progress on standard error: a bar with the remaining time in a terminal, plain lines elsewhere."""

    def __init__(self, quiet: bool = False):
        self._quiet = quiet
        self._note = ""

    def note(self, text: str) -> None:
        """Show a short text beside the bar, such as the current loss."""
        self._note = text

    def track(self, items: Iterable[T], description: str, total: int) -> Iterator[T]:
        """Yield the items and show how many of `total` are done and the remaining time."""
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
