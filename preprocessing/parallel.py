"""The same work for every case, in several processes, with the cases named where a process dies."""

from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

import joblib
from joblib.externals.loky.process_executor import TerminatedWorkerError

from configs.progress import Progress

InputT = TypeVar("InputT")
OutputT = TypeVar("OutputT")


def for_each_case(
    function: Callable[[str, InputT], OutputT], cases: Mapping[str, InputT], jobs: int, progress: Progress, description: str
) -> Iterator[tuple[str, OutputT]]:
    """Yield (identifier, `function(identifier, value)`) as the cases finish, in any order.

    Args:
        function: can be pickled; a fault of one case is for it to catch.
        cases: identifier -> value.
        jobs: processes, each with one thread; 1 works in this process.
        progress: shown for each case.
        description: of the work, for the bar and for errors.

    Raises:
        RuntimeError: a process was killed; the cases that are unfinished are named.
    """
    unfinished = dict.fromkeys(cases)
    calls = (joblib.delayed(_call)(function, identifier, value) for identifier, value in cases.items())
    with joblib.parallel_config(backend="loky", inner_max_num_threads=1):
        results = joblib.Parallel(n_jobs=min(jobs, max(1, len(cases))), return_as="generator_unordered")(calls)
        try:
            for identifier, result in progress.track(results, description, len(cases)):
                del unfinished[identifier]
                yield identifier, result
        except TerminatedWorkerError as error:
            first = ", ".join(list(unfinished)[: 2 * jobs])
            raise RuntimeError(
                f"{description}: a worker process was killed, most likely for want of memory. {len(unfinished)} cases are "
                f"unfinished, the next of them {first}. Run again with a smaller --jobs (now {jobs})"
            ) from error


def _call(function: Callable[[str, InputT], OutputT], identifier: str, value: InputT) -> tuple[str, OutputT]:
    return identifier, function(identifier, value)
