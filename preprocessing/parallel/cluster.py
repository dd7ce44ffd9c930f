"""A client of a Dask cluster."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from configs.errors import Fault, InputError

if TYPE_CHECKING:
    from distributed import Client

_SECONDS_TO_CONNECT = 10
SECONDS_FOR_WORKERS = 10


@contextmanager
def connected(scheduler: str) -> Iterator["Client"]:
    """Yield a client of the cluster with this scheduler; what it has not finished is cancelled at the end.

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
        yield client
