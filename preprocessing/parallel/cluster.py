"""Cases on a Dask cluster, through joblib's Dask backend."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import joblib
from joblib._dask import DaskDistributedBackend

from configs.errors import Fault, InputError

_SECONDS_TO_CONNECT = 10


class Backend(DaskDistributedBackend):
    """joblib's, but a task that the cluster gives up on is an error: joblib's own would wait for it for ever."""

    def submit(self, func: Any, callback: Callable[[Any], None]) -> Future:
        """Have a batch of calls done; the callback is told of the result, or of the error."""
        future: Future = super().submit(func, callback)
        future.add_done_callback(lambda done: callback(done) if done.exception() else None)
        return future

    def retrieve_result_callback(self, out: Any) -> Any:
        """The result of what the callback was told, or raise the error."""
        return out.result() if isinstance(out, Future) else super().retrieve_result_callback(out)


@contextmanager
def cluster_of(scheduler: str) -> Iterator[joblib.Parallel]:
    """Does calls on the workers of a cluster.

    Args:
        scheduler: address of the cluster's scheduler.

    Raises:
        InputError: the package is not installed, or the scheduler cannot be reached.
    """
    try:
        from distributed import Client
    except ImportError as error:
        problem = "the package `distributed` is not installed"
        raise InputError(Fault(f"--scheduler {scheduler}", problem, "Run pip install 'se-unet[dask]'")) from error
    try:
        client = Client(scheduler, set_as_default=False, timeout=_SECONDS_TO_CONNECT)
    except (OSError, ValueError) as error:
        problem = f"the Dask scheduler cannot be reached ({' '.join(str(error).split())})"
        raise InputError(Fault(f"--scheduler {scheduler}", problem, "Give the address that `dask scheduler` printed")) from error
    with client:
        with joblib.parallel_config(backend=Backend(client=client)):
            parallel = joblib.Parallel(n_jobs=-1, return_as="generator_unordered", batch_size=1)
        yield parallel
