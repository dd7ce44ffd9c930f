"""Provide the first network's segmentations to the second network of a cascade, as one additional channel per class.

During training, the segmentation of a case comes from the fold of the first network that did not train on it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import blosc2
import numpy as np
from numpy.typing import NDArray

from configs.dataset import DatasetDescription
from configs.errors import Fault, collecting, raise_faults
from configs.files import read_json, replacing, write_json
from configs.folders import ModelFolder
from configs.progress import Progress
from configs.run_log import digest
from inference.cascade import on_prepared_grid, one_hot
from inference.evaluation.validated import validated_cases
from preprocessing.dataset.labels import to_class_indices
from preprocessing.formats.images import read_labels
from preprocessing.geometry.same_grid import require_same_grid
from preprocessing.store import CaseStore

_MADE = ".made_from.json"  # case -> digests of the segmentation and of the prepared case; cases are not named with a dot
_TITLE = "Resampling segmentations of the first network"


@dataclass(frozen=True)
class PreviousStage:
    """Segmentations by the first network on the grids of the prepared cases."""

    folder: Path  # folder of the files `<case>.b2nd` with class indices (Z, Y, X) int16
    channels: int  # number of channels, `DatasetDescription.cascade_channels`

    def read(self, identifier: str) -> Any:
        """Open the segmentation of a case; slicing it returns NumPy arrays."""
        return blosc2.open(str(self._path(identifier)), mode="r", dparams={"nthreads": 1})

    def prepare(
        self,
        first: ModelFolder,
        store: CaseStore,
        identifiers: Sequence[str],
        description: DatasetDescription,
        progress: Progress,
    ) -> None:
        """Resample the validation segmentations of the first model's folds, all trained and validated, to the grids of the prepared cases.

        Raises:
            InputError: no fold has segmented some of the cases (all are listed), or see `validated_cases`.
        """
        found = _segmentations(first)
        raise_faults(
            Fault(
                f"case `{identifier}`",
                f"no fold of {first.path} has segmented it",
                f"Train every fold of {first.path.name} first",
            )
            for identifier in identifiers
            if identifier not in found
        )
        sources = {identifier: found[identifier] for identifier in identifiers}
        self.folder.mkdir(parents=True, exist_ok=True)
        made = _read_made(self.folder / _MADE)
        try:
            for identifier, source in progress.track(sources.items(), _TITLE, len(sources)):
                made[identifier] = self._resample(identifier, source, store, description, made.get(identifier))
        finally:
            write_json(self.folder / _MADE, made)

    def _resample(
        self, identifier: str, source: Path, store: CaseStore, description: DatasetDescription, made: str | None
    ) -> str:
        """Resample a segmentation unless it was made from the same files, and return what it is made from."""
        path, properties = self._path(identifier), store.read(identifier).properties
        key = f"{digest(source)} {properties.key}"
        if made == key and path.is_file():
            return key
        labels, grid = read_labels(source)
        require_same_grid(f"case `{identifier}`", f"the segmentation {source}", grid, properties.trace.geometry)
        prepared = on_prepared_grid(to_class_indices(labels, description), properties.trace)
        with replacing(path) as temporary:
            blosc2.asarray(prepared, urlpath=str(temporary), mode="w", cparams={"nthreads": 1})
        return key

    def beside(self, image: NDArray[np.float32], identifier: str) -> NDArray[np.float32]:
        """Return an image (C, Z, Y, X) followed by the channels of the case's segmentation."""
        return np.concatenate([image, one_hot(self.read(identifier)[:], self.channels)])

    def _path(self, identifier: str) -> Path:
        return self.folder / f"{identifier}.b2nd"


def _segmentations(first: ModelFolder) -> dict[str, Path]:
    """Return the segmentation of each case by a fold that did not train on it.

    Raises:
        InputError: as `validated_cases`, with the faults of all folds.
    """
    faults, found = list[Fault](), dict[str, Path]()
    for fold in first.folds():
        with collecting(faults):
            found = {case: fold.validation.segmentation(case) for case in validated_cases(fold)} | found
    raise_faults(faults)
    return found


def _read_made(path: Path) -> dict[str, str]:
    """Return what the resampled segmentations were made from; nothing where this is not known, so that they are made again."""
    return dict(read_json(path)) if path.is_file() else {}
