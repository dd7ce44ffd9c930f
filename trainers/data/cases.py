"""Prepared cases for the patch sampler, read from disk patch by patch or held in memory if the set is small."""

import logging
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import psutil
from numpy.typing import NDArray

from configs.errors import Fault, InputError, raise_faults
from configs.progress import Progress
from preprocessing.store import CaseStore, StoredCase
from trainers.data.previous_stage import PreviousStage

logger = logging.getLogger(__name__)

# Bytes. Larger sets are read patch by patch, however much memory is free. On Linux the loading processes share the cache;
# elsewhere each process has its own copy.
CACHE_LIMIT = (8 if sys.platform == "linux" else 1) * 2**30
CACHE_SHARE = 0.25  # of the available memory


class TrainingCase(Protocol):
    """One prepared case. Its arrays are read when they are sliced, which returns NumPy arrays."""

    @property
    def image(self) -> Any:
        """Image (C, Z, Y, X) float32."""
        ...

    @property
    def labels(self) -> Any:
        """Class indices (Z, Y, X) int16."""
        ...

    @property
    def class_locations(self) -> Mapping[int, NDArray[np.int32]]:
        """Voxel indices (n, 3) in the order (Z, Y, X) for each foreground class index."""
        ...

    @property
    def previous(self) -> Any | None:
        """Class indices (Z, Y, X) int16 from the first network of a cascade; None without a cascade."""
        ...


@dataclass(frozen=True)
class CaseInMemory:
    """A `TrainingCase` held in memory."""

    image: NDArray[np.float32]
    labels: NDArray[np.int16]
    class_locations: Mapping[int, NDArray[np.int32]]
    previous: NDArray[np.int16] | None = None


class CaseOnDisk:
    """A `TrainingCase` read from disk patch by patch."""

    def __init__(self, stored: StoredCase, previous: PreviousStage | None):
        self._stored = stored
        self._previous = previous

    @property
    def image(self) -> Any:
        """Image (C, Z, Y, X) float32."""
        return self._stored.image

    @property
    def labels(self) -> Any:
        """Class indices (Z, Y, X) int16."""
        return self._stored.labels

    @property
    def class_locations(self) -> Mapping[int, NDArray[np.int32]]:
        """Voxel indices (n, 3) for each foreground class index."""
        return self._stored.class_locations

    @cached_property
    def previous(self) -> Any | None:
        """Class indices (Z, Y, X) int16 from the first network of a cascade, or None."""
        return None if self._previous is None else self._previous.read(self._stored.identifier)


def open_cases(
    store: CaseStore,
    identifiers: Sequence[str],
    progress: Progress,
    limit: int | None = None,
    previous: PreviousStage | None = None,
) -> dict[str, TrainingCase]:
    """Open cases, in memory if all of them fit into `limit` bytes, otherwise to be read patch by patch.

    Without a limit it is `CACHE_SHARE` of the available memory, at most `CACHE_LIMIT`. A cascade adds segmentations of the `previous`
    stage.

    Raises:
        InputError: cases are missing or have no labels; all of them are listed.
    """
    limit = min(CACHE_LIMIT, int(psutil.virtual_memory().available * CACHE_SHARE)) if limit is None else limit
    size = _total_bytes(store, identifiers)
    if size > limit:
        logger.info(
            "reading patches from disk: the %d cases (%.1f GiB) exceed the memory limit for caching",
            len(identifiers),
            size / 2**30,
        )
        return {identifier: CaseOnDisk(store.read(identifier), previous) for identifier in identifiers}
    cases: dict[str, TrainingCase] = {}
    for identifier in progress.track(identifiers, "Reading cases into memory", len(identifiers)):
        stored = store.read(identifier)
        before = None if previous is None else previous.read(identifier)[:]
        cases[identifier] = CaseInMemory(stored.image[:], stored.labels[:], stored.class_locations, before)
    return cases


def _total_bytes(store: CaseStore, identifiers: Sequence[str]) -> int:
    """Return the size of all arrays in memory. The files are closed again, because each worker opens its own."""
    total = 0
    faults: list[Fault] = []
    for identifier in identifiers:
        try:
            case = store.read(identifier)
            if not case.properties.class_counts and case.properties.labels is None:
                problem, remedy = "the case has no labels", "Add a label file and run se_plan_and_preprocess again"
                faults.append(Fault(f"case `{identifier}`", problem, remedy))
                continue
            total += sum(math.prod(array.shape) * array.dtype.itemsize for array in (case.image, case.labels))
        except InputError as error:
            faults += error.faults
    raise_faults(faults)
    return total
