"""Process every case in parallel, in local processes or on a cluster, so that a failing case does not stop the others.

A case that raises is reported with its reason when all others are done. When a worker process dies, often because memory ran out,
the cases in flight are tried once more, each alone in a fresh process, after the others.
"""

import errno
import logging
import os
import re
import tempfile
import threading
import traceback
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import joblib

from configs.errors import Fault, InputError
from configs.progress import Progress
from preprocessing.formats.registry import in_workers
from preprocessing.parallel.markers import InFlight, Watch, end_with, marking
from preprocessing.parallel.messages import Message, collecting_messages, log_again

InputT = TypeVar("InputT")
OutputT = TypeVar("OutputT")
_Results = Generator[tuple[str, Any], None, None]  # case, and its result or `_Failed`
_MOST_DEATHS_BEFORE_A_CASE = 2  # after which workers are not expected to start a case
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Failed:
    """Failure of a case in plain values, because not every error can be pickled."""

    reason: str  # type and message of the error
    faults: tuple[Fault, ...] = ()  # faults of an `InputError`
    is_disk_full: bool = False  # whether the disk is full, so that the other cases need not be tried

    @classmethod
    def by(cls, error: Exception) -> "_Failed":
        """Return the failure for an error."""
        faults = error.faults if isinstance(error, InputError) else ()
        is_disk_full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        return cls(f"{type(error).__name__}: {_brief(error)}", faults, is_disk_full)


@dataclass(frozen=True)
class _Parent:
    """Process that a worker works for, and its working folder: workers are reused, and keep the folder in which they were started."""

    process: int
    folder: Path

    @classmethod
    def this(cls) -> "_Parent":
        """Return the current process."""
        return cls(os.getpid(), Path.cwd())


@dataclass(frozen=True)
class _Work:
    """Work to do for each case. `stop` is set to start no further cases."""

    function: Callable[[str, Any], Any]
    jobs: int
    description: str
    stop: threading.Event = field(default_factory=threading.Event)

    def calls(self, cases: Mapping[str, Any], folder: Path | None) -> Iterator[Any]:
        """Yield the calls for joblib, which requests them as processes become free."""
        for identifier, value in cases.items():
            if self.stop.is_set():
                return
            yield joblib.delayed(_call)(self.function, identifier, value, folder, None if folder is None else _Parent.this())


def for_each_case(
    function: Callable[[str, InputT], OutputT],
    cases: Mapping[str, InputT],
    jobs: int,
    progress: Progress,
    description: str,
    scheduler: str | None = None,
) -> Iterator[tuple[str, OutputT]]:
    """Yield (identifier, `function(identifier, value)`) as the cases finish, in any order; raise at the end if some failed.

    The picklable function runs in `jobs` processes with one thread each (1 works in this process), or on the workers of a Dask scheduler.
    `description` names the work in progress displays and errors.

    Raises:
        InputError: all failures are due to the input, and all faults are listed; or the scheduler cannot be reached.
        RuntimeError: cases failed otherwise or were killed; each is named with its reason, and the others were yielded before.
    """
    work = _Work(in_workers(function), max(1, min(jobs, len(cases))), description)
    if scheduler is not None:
        results = _on_cluster(work, cases, scheduler)
    elif work.jobs == 1:
        results = _in_turn(work, cases)
    else:
        results = _in_processes(work, cases)
    failures: dict[str, _Failed] = {}
    done = 0
    for identifier, result in progress.track(results, description, len(cases)):
        if not isinstance(result, _Failed):
            done += 1
            yield identifier, result
            continue
        failures[identifier] = result
        if result.is_disk_full:
            work.stop.set()  # the remaining cases would fail as well
    _raise_failures(failures, done, len(cases))


def _in_turn(work: _Work, cases: Mapping[str, Any]) -> _Results:
    for identifier, value in cases.items():
        if work.stop.is_set():
            return
        yield identifier, _result(work.function, identifier, value)


def _in_processes(work: _Work, cases: Mapping[str, Any]) -> _Results:
    """Process all cases in parallel. If a worker dies, the cases in flight are tried again alone when the others are done."""
    remaining, suspects, deaths = dict(cases), dict[str, Any](), 0
    with tempfile.TemporaryDirectory(prefix="se-unet-") as folder, Watch(Path(folder)) as watch:
        while remaining and not work.stop.is_set():
            try:
                for identifier, result in _side_by_side(work, dict(remaining), work.jobs, Path(folder)):
                    del remaining[identifier]
                    yield identifier, result
            except BrokenProcessPool as error:
                in_flight = _after_death(watch, remaining)
                deaths = 0 if in_flight else deaths + 1
                if deaths == _MOST_DEATHS_BEFORE_A_CASE:
                    raise RuntimeError(f"{work.description}: workers die before they start a case ({_exits(error)})") from error
                named = ", ".join(map(str, in_flight)) or "none"
                _logger.warning(
                    "%s: a worker process was killed. Cases in flight, which will be tried again alone: %s",
                    work.description,
                    named,
                )
                suspects |= {case.identifier: remaining.pop(case.identifier) for case in in_flight}
        for identifier, value in suspects.items():
            yield _alone(work, identifier, value, Path(folder), watch)


def _alone(work: _Work, identifier: str, value: Any, folder: Path, watch: Watch) -> tuple[str, Any]:
    """Process one case in a fresh process with all available memory."""
    try:
        [(_, result)] = _side_by_side(work, {identifier: value}, 2, folder)  # two, since one would run in this process
    except BrokenProcessPool as error:
        seen = [str(case) for case in _after_death(watch, {identifier: value})] or [f"`{identifier}`"]
        reason = (
            f"the worker process was killed twice, the second time alone: {seen[0]}; {_exits(error)}. "
            "SIGKILL usually means that memory ran out. Free memory, or remove the case"
        )
        return identifier, _Failed(reason)
    return identifier, result


def _side_by_side(work: _Work, cases: Mapping[str, Any], jobs: int, folder: Path) -> _Results:
    # A worker whose memory has grown is replaced. Where warnings are errors, joblib's warning of it would end the thread that hands out the
    # cases, and the run would wait forever.
    warnings.filterwarnings("ignore", "A worker stopped while some jobs were given to the executor", UserWarning)
    with joblib.parallel_config(backend="loky", inner_max_num_threads=1):
        parallel = joblib.Parallel(n_jobs=jobs, return_as="generator_unordered", batch_size=1)
    for identifier, result, messages in parallel(work.calls(cases, folder)):
        log_again(messages)
        yield identifier, result


def _after_death(watch: Watch, cases: Mapping[str, object]) -> list[InFlight]:
    """Return the cases in flight; if a worker dies, all workers of its pool are stopped."""
    in_flight = [case for case in watch.in_flight() if case.identifier in cases]
    watch.clear()
    return in_flight


def _on_cluster(work: _Work, cases: Mapping[str, Any], scheduler: str) -> _Results:
    """All cases on a Dask cluster, which gives a killed worker's cases to others by itself, a few times."""
    from preprocessing.parallel.cluster import SECONDS_FOR_WORKERS, connected

    remaining = dict.fromkeys(cases)
    with connected(scheduler) as client:
        from distributed import as_completed

        try:
            client.wait_for_workers(1, timeout=SECONDS_FOR_WORKERS)
            futures = [client.submit(partial(call, *given), pure=False) for call, given, _ in work.calls(cases, None)]
            for future in as_completed(futures, loop=client.loop):
                identifier, result, messages = future.result()
                log_again(messages)
                del remaining[identifier]
                yield identifier, result
                if work.stop.is_set():
                    return
        except Exception as error:
            unfinished = ", ".join(f"`{identifier}`" for identifier in remaining)
            raise RuntimeError(
                f"{work.description}: the cluster gave up ({type(error).__name__}: {_brief(error)}). Unfinished cases: {unfinished}"
            ) from error


def _call(
    function: Callable[[str, Any], Any], identifier: str, value: Any, folder: Path | None, parent: _Parent | None
) -> tuple[str, Any, list[Message]]:
    """Process a case in a worker. Returns the case, its result or `_Failed`, and the warnings that were logged."""
    if parent is not None:
        end_with(parent.process)
        os.chdir(parent.folder)
    with marking(folder, identifier), collecting_messages() as messages:
        return identifier, _result(function, identifier, value), messages


def _result(function: Callable[[str, Any], Any], identifier: str, value: Any) -> Any:
    try:
        return function(identifier, value)
    except Exception as error:  # noqa: BLE001 - one case must not stop the others; all reasons are reported together
        _logger.debug("case %s\n%s", identifier, traceback.format_exc())
        return _Failed.by(error)


def _raise_failures(failures: Mapping[str, _Failed], done: int, total: int) -> None:
    if not failures:
        return
    if all(failure.faults for failure in failures.values()):
        raise InputError(
            *(fault.within(f"case `{identifier}`") for identifier, failure in failures.items() for fault in failure.faults)
        )
    full = next(
        (f"case `{identifier}`: {failure.reason}" for identifier, failure in failures.items() if failure.is_disk_full), None
    )
    if full:
        raise RuntimeError(f"the disk is full: {full}. {done} of {total} cases are done; free some space and run again")
    reasons = "; ".join(f"case `{identifier}`: {failure.reason}" for identifier, failure in failures.items())
    raise RuntimeError(f"{len(failures)} of {total} cases failed: {reasons}. All others are done; run again to complete them")


def _brief(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _exits(error: BrokenProcessPool) -> str:
    """Return the exit codes of the workers, from joblib's message."""
    found = re.search(r"exit codes of the workers are (\{[^}]*\})", str(error))
    return f"exit codes {found[1]}" if found else _brief(error)
