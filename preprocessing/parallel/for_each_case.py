"""The same work for every case, in several processes or on a cluster: one case that fails does not stop the others.

A case that raises is reported with its reason when all others are done. When a worker process dies (for want of memory, say), the
cases it may have been on are tried once more, each alone in a fresh process; the others go on.
"""

import errno
import logging
import os
import re
import tempfile
import threading
import traceback
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import joblib
from joblib.externals.loky.process_executor import TerminatedWorkerError

from configs.errors import Fault, InputError
from configs.progress import Progress
from preprocessing.parallel.markers import InFlight, Watch, end_with, marking

InputT = TypeVar("InputT")
OutputT = TypeVar("OutputT")
_Results = Generator[tuple[str, Any], None, None]  # case, and what came of it: a result or `_Failed`
_MOST_DEATHS_BEFORE_A_CASE = 2  # workers that die before they begin a case will not do better the next time
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Failed:
    """What a case raised, in plain values: not every error survives the way between processes.

    Attributes:
        reason: type and message.
        faults: of an `InputError`.
        is_disk_full: then the other cases need not be tried.
    """

    reason: str
    faults: tuple[Fault, ...] = ()
    is_disk_full: bool = False

    @classmethod
    def by(cls, error: Exception) -> "_Failed":
        """Made of what was raised."""
        faults = error.faults if isinstance(error, InputError) else ()
        is_disk_full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        return cls(f"{type(error).__name__}: {_brief(error)}", faults, is_disk_full)


@dataclass(frozen=True)
class _Work:
    """What to do with each case, how, and whether to begin no more."""

    function: Callable[[str, Any], Any]
    jobs: int
    description: str
    stop: threading.Event = field(default_factory=threading.Event)

    def calls(self, cases: Mapping[str, Any], folder: Path | None) -> Iterator[Any]:
        """The calls for joblib, which asks for them as processes become free."""
        for identifier, value in cases.items():
            if self.stop.is_set():
                return
            yield joblib.delayed(_call)(self.function, identifier, value, folder, None if folder is None else os.getpid())


def for_each_case(
    function: Callable[[str, InputT], OutputT],
    cases: Mapping[str, InputT],
    jobs: int,
    progress: Progress,
    description: str,
    scheduler: str | None = None,
) -> Iterator[tuple[str, OutputT]]:
    """Yield (identifier, `function(identifier, value)`) as the cases finish, in any order; raise at the end where some failed.

    Args:
        function: can be pickled.
        cases: identifier -> value.
        jobs: processes, each with one thread; 1 works in this process.
        progress: shown for each case.
        description: of the work, for the bar and for errors.
        scheduler: address of a Dask scheduler, whose workers then do the work instead of `jobs` processes.

    Raises:
        InputError: all cases that failed did so by what they were given; all their faults are listed. Or the scheduler cannot
            be reached.
        RuntimeError: cases failed otherwise or were killed, each is named with its reason; the others were yielded before.
    """
    work = _Work(function, max(1, min(jobs, len(cases))), description)
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
            work.stop.set()  # the cases that remain would fail as well
    _raise_failures(failures, done, len(cases))


def _in_turn(work: _Work, cases: Mapping[str, Any]) -> _Results:
    for call, arguments, _ in work.calls(cases, None):
        yield call(*arguments)


def _in_processes(work: _Work, cases: Mapping[str, Any]) -> _Results:
    """All cases side by side; when a worker dies, those in flight are set aside, and tried alone when the others are done."""
    remaining, suspects, deaths = dict(cases), dict[str, Any](), 0
    with tempfile.TemporaryDirectory(prefix="se-unet-") as folder, Watch(Path(folder)) as watch:
        while remaining and not work.stop.is_set():
            try:
                for identifier, result in _side_by_side(work, dict(remaining), work.jobs, Path(folder)):
                    del remaining[identifier]
                    yield identifier, result
            except TerminatedWorkerError as error:
                in_flight = _after_death(watch, remaining)
                deaths = 0 if in_flight else deaths + 1
                if deaths == _MOST_DEATHS_BEFORE_A_CASE:
                    raise RuntimeError(
                        f"{work.description}: worker processes die before they begin a case ({_exits(error)})"
                    ) from error
                named = ", ".join(map(str, in_flight)) or "none"
                _logger.warning(
                    "%s: a worker process was killed. Cases in flight, to be tried again alone: %s", work.description, named
                )
                suspects |= {case.identifier: remaining.pop(case.identifier) for case in in_flight}
        for identifier, value in suspects.items():
            yield _alone(work, identifier, value, Path(folder), watch)


def _alone(work: _Work, identifier: str, value: Any, folder: Path, watch: Watch) -> tuple[str, Any]:
    """One case in a fresh process, with all memory for itself."""
    try:
        [(_, result)] = _side_by_side(work, {identifier: value}, 2, folder)  # two, as one would be this very process
    except TerminatedWorkerError as error:
        seen = [str(case) for case in _after_death(watch, {identifier: value})] or [f"`{identifier}`"]
        reason = (
            f"its worker process was killed twice, the second time alone: {seen[0]}; {_exits(error)}. "
            "SIGKILL mostly means that memory ran out: free some, or leave the case out"
        )
        return identifier, _Failed(reason)
    return identifier, result


def _side_by_side(work: _Work, cases: Mapping[str, Any], jobs: int, folder: Path) -> _Results:
    with joblib.parallel_config(backend="loky", inner_max_num_threads=1):
        parallel = joblib.Parallel(n_jobs=jobs, return_as="generator_unordered", batch_size=1)
    yield from parallel(work.calls(cases, folder))


def _after_death(watch: Watch, cases: Mapping[str, object]) -> list[InFlight]:
    """The cases that workers were on; a death takes all workers of its pool along."""
    in_flight = [case for case in watch.in_flight() if case.identifier in cases]
    watch.clear()
    return in_flight


def _on_cluster(work: _Work, cases: Mapping[str, Any], scheduler: str) -> _Results:
    """All cases on a Dask cluster, which gives a killed worker's cases to others by itself, a few times."""
    from preprocessing.parallel.cluster import cluster_of

    remaining = dict.fromkeys(cases)
    with cluster_of(scheduler) as parallel:
        try:
            for identifier, result in parallel(work.calls(cases, None)):
                del remaining[identifier]
                yield identifier, result
        except Exception as error:
            unfinished = ", ".join(f"`{identifier}`" for identifier in remaining)
            raise RuntimeError(
                f"{work.description}: the cluster gave up ({type(error).__name__}: {_brief(error)}). Unfinished cases: {unfinished}"
            ) from error


def _call(
    function: Callable[[str, Any], Any], identifier: str, value: Any, folder: Path | None, parent: int | None
) -> tuple[str, Any]:
    if parent is not None:
        end_with(parent)
    with marking(folder, identifier):
        try:
            return identifier, function(identifier, value)
        except Exception as error:  # noqa: BLE001 - one case must not stop the others; all reasons are raised together
            _logger.debug("case %s\n%s", identifier, traceback.format_exc())
            return identifier, _Failed.by(error)


def _raise_failures(failures: Mapping[str, _Failed], done: int, total: int) -> None:
    if not failures:
        return
    if all(failure.faults for failure in failures.values()):
        raise InputError(
            *(
                Fault(f"case `{identifier}`, {fault.where}", fault.problem, fault.remedy)
                for identifier, failure in failures.items()
                for fault in failure.faults
            )
        )
    full = next(
        (f"case `{identifier}`: {failure.reason}" for identifier, failure in failures.items() if failure.is_disk_full), None
    )
    if full:
        raise RuntimeError(f"the disk is full: {full}. {done} of {total} cases are done; free some space and run again")
    reasons = "; ".join(f"case `{identifier}`: {failure.reason}" for identifier, failure in failures.items())
    raise RuntimeError(f"{len(failures)} of {total} cases failed: {reasons}. All others are done; run again to complete")


def _brief(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _exits(error: TerminatedWorkerError) -> str:
    """What the library says of how the processes ended."""
    found = re.search(r"exit codes of the workers are (\{[^}]*\})", str(error))
    return f"exit codes {found[1]}" if found else _brief(error)
