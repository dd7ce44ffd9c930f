"""Prepared cases for the patch sampler, read from disk patch by patch or held in memory if the set is small."""

import logging
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

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


@dataclass(frozen=True)
class CaseInMemory:
    """A prepared case held in memory."""

    image: NDArray[np.float32]  # image (C, Z, Y, X)
    labels: NDArray[np.int16]  # class indices (Z, Y, X)
    class_locations: Mapping[int, NDArray[np.int32]]  # voxel indices (n, 3) (Z, Y, X) for each foreground class index
    previous: NDArray[np.int16] | None = None  # class indices (Z, Y, X) from the first network of a cascade, or None


class CaseOnDisk(StoredCase):
    """A prepared case whose arrays are read when they are sliced, which returns NumPy arrays."""

    def __init__(self, folder: Path, identifier: str, previous: PreviousStage | None):
        super().__init__(folder, identifier)
        self._previous = previous

    @cached_property
    def previous(self) -> Any | None:
        """Class indices (Z, Y, X) int16 from the first network of a cascade, or None."""
        return None if self._previous is None else self._previous.read(self.identifier)


TrainingCase = CaseInMemory | CaseOnDisk


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
        return {identifier: CaseOnDisk(store.folder, identifier, previous) for identifier in identifiers}
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
