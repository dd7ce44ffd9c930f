"""Prepared cases as the sampler sees them: sliced from disk, or held in memory where the set is small."""

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

# Bytes; a set beyond them is read patch by patch, whatever memory there is. Linux shares them among the loading processes,
# elsewhere each has a copy.
CACHE_LIMIT = (8 if sys.platform == "linux" else 1) * 2**30
CACHE_SHARE = 0.25  # of the memory that is free


class TrainingCase(Protocol):
    """One prepared case. Slicing an array gives NumPy; nothing is read before."""

    @property
    def image(self) -> Any:
        """(C, Z, Y, X) float32."""
        ...

    @property
    def labels(self) -> Any:
        """(Z, Y, X) int16 class indices."""
        ...

    @property
    def class_locations(self) -> Mapping[int, NDArray[np.int32]]:
        """Class index -> voxels (n, 3) of it in (Z, Y, X); background is left out."""
        ...

    @property
    def previous(self) -> Any | None:
        """(Z, Y, X) int16 class indices that the first network of a cascade gave; None where there is no cascade."""
        ...


@dataclass(frozen=True)
class CaseInMemory:
    """A case held in memory. Attributes as of `TrainingCase`."""

    image: NDArray[np.float32]
    labels: NDArray[np.int16]
    class_locations: Mapping[int, NDArray[np.int32]]
    previous: NDArray[np.int16] | None = None


class CaseOnDisk:
    """A case read patch by patch. Attributes as of `TrainingCase`."""

    def __init__(self, stored: StoredCase, previous: PreviousStage | None):
        self._stored = stored
        self._previous = previous

    @property
    def image(self) -> Any:
        """(C, Z, Y, X) float32."""
        return self._stored.image

    @property
    def labels(self) -> Any:
        """(Z, Y, X) int16."""
        return self._stored.labels

    @property
    def class_locations(self) -> Mapping[int, NDArray[np.int32]]:
        """Class index -> (n, 3)."""
        return self._stored.class_locations

    @cached_property
    def previous(self) -> Any | None:
        """(Z, Y, X) int16, or None."""
        return None if self._previous is None else self._previous.read(self._stored.identifier)


def open_cases(
    store: CaseStore,
    identifiers: Sequence[str],
    progress: Progress,
    limit: int | None = None,
    previous: PreviousStage | None = None,
) -> dict[str, TrainingCase]:
    """Cases by identifier: in memory where all of them fit into `limit` bytes, else read patch by patch.

    Args:
        store: the prepared cases.
        identifiers: of the cases that train or validate.
        progress: shows the cases being read into memory.
        previous: segmentations of the first network of a cascade.
        limit: None takes `CACHE_SHARE` of the free memory, at most `CACHE_LIMIT`.

    Raises:
        InputError: cases that are missing or have no labels; all of them are listed.
    """
    limit = min(CACHE_LIMIT, int(psutil.virtual_memory().available * CACHE_SHARE)) if limit is None else limit
    size = _total_bytes(store, identifiers)
    if size > limit:
        logger.info("%d cases of %.1f GiB are read patch by patch", len(identifiers), size / 2**30)
        return {identifier: CaseOnDisk(store.read(identifier), previous) for identifier in identifiers}
    cases: dict[str, TrainingCase] = {}
    for identifier in progress.track(identifiers, "Reading cases into memory", len(identifiers)):
        stored = store.read(identifier)
        before = None if previous is None else previous.read(identifier)[:]
        cases[identifier] = CaseInMemory(stored.image[:], stored.labels[:], stored.class_locations, before)
    return cases


def _total_bytes(store: CaseStore, identifiers: Sequence[str]) -> int:
    """Size of all arrays in memory. The files opened for it are closed again: workers open their own."""
    total = 0
    faults: list[Fault] = []
    for identifier in identifiers:
        try:
            case = store.read(identifier)
            if not case.properties.class_counts and case.properties.labels is None:
                problem, remedy = "it has no labels", "Add its label file and run se_plan_and_preprocess again"
                faults.append(Fault(f"case `{identifier}`", problem, remedy))
                continue
            total += sum(math.prod(array.shape) * array.dtype.itemsize for array in (case.image, case.labels))
        except InputError as error:
            faults += error.faults
    raise_faults(faults)
    return total
