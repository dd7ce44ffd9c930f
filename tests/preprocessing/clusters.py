"""Dask clusters on this machine, for the tests."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def local_cluster(workers: int) -> Iterator[str]:
    """Yield the address of a scheduler with worker processes of one thread, which can import the tests."""
    distributed = pytest.importorskip("distributed", reason="distributed is not installed")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
        with distributed.LocalCluster(n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None) as made:
            yield made.scheduler_address
