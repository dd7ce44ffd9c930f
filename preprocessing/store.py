"""Store of preprocessed cases: arrays compressed in blocks, so that a patch is read without the whole volume.

Each case has `<case>.b2nd` (image), `<case>_labels.b2nd`, `<case>_locations.b2nd` (voxels of each class) and `<case>.json`, which
is written last: a case without it is incomplete.
"""

import math
from functools import cached_property
from pathlib import Path

import blosc2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from configs.errors import Fault, InputError, fault_of
from configs.files import Value, list_folder, raise_if_full, replacing
from preprocessing.dataset.raw import STORE_SUFFIXES
from preprocessing.pipeline import Preprocessed, Trace

_BLOCK_BYTES = 128 * 1024
_CHUNK_BYTES = 6 * 1024 * 1024
_LAYERS_AT = 91  # offset in bytes of the number and names of a file's metalayers
_ARRAY_ALONE = b"\xde\x00\x01\xa4b2nd"  # a single metalayer, for an array

ClassLocations = dict[int, NDArray[np.int32]]


class CaseProperties(Value):
    """Properties of a preprocessed case besides its arrays."""

    key: str  # digest of the inputs and settings; the case is stale if they have another
    trace: Trace  # leads back to the stored image
    images: tuple[str, ...] = ()  # paths to the image files
    labels: str | None = None  # path to the label file, or None
    annotated: tuple[str, ...] | None = None  # labels that were annotated; None for all
    class_counts: dict[int, int] = Field(default_factory=dict)  # voxels of each class index in `class_locations`, as stored


class StoredCase:
    """One preprocessed case. Arrays are opened on first use; slicing reads only the blocks it touches."""

    def __init__(self, folder: Path, identifier: str):
        self.identifier = identifier
        self._folder = folder

    @cached_property
    def image(self) -> blosc2.NDArray:
        """Image (C, Z, Y, X) float32; slicing returns a NumPy array."""
        return _open(self._folder / f"{self.identifier}.b2nd")

    @cached_property
    def labels(self) -> blosc2.NDArray:
        """Class indices (Z, Y, X) int16; slicing returns a NumPy array. Raises `InputError` for a case without labels."""
        return _open(self._folder / f"{self.identifier}_labels.b2nd")

    @cached_property
    def properties(self) -> CaseProperties:
        """Trace, source files and key of the case."""
        return CaseProperties.read(self._folder / f"{self.identifier}.json")

    @cached_property
    def class_locations(self) -> ClassLocations:
        """Voxel indices (n, 3) in the order (Z, Y, X) kept for each foreground class index."""
        counts = self.properties.class_counts
        if not counts:
            return {}
        locations = _open(self._folder / f"{self.identifier}_locations.b2nd")[:]
        ends = np.cumsum(list(counts.values()))[:-1]
        return dict(zip(counts, np.split(locations, ends), strict=True))


class CaseStore:
    """A folder of preprocessed cases."""

    def __init__(self, folder: Path):
        self.folder = Path(folder)

    def identifiers(self) -> list[str]:
        """Return the sorted identifiers of the complete cases."""
        names = (path.name for path in list_folder(self.folder, "*.json"))
        return sorted(name.removesuffix(".json") for name in names if not name.startswith("."))

    def read(self, identifier: str) -> StoredCase:
        """Return a case, or raise `InputError` if it is missing or incomplete."""
        if not self._is_whole(identifier):
            raise InputError(Fault(f"case `{identifier}`", f"not in {self.folder}", "Run se_plan_and_preprocess"))
        return StoredCase(self.folder, identifier)

    def write(
        self,
        identifier: str,
        case: Preprocessed,
        class_locations: ClassLocations,
        *,
        key: str = "",
        images: tuple[str, ...] = (),
        labels: str | None = None,
        annotated: tuple[str, ...] | None = None,
        patch_size: tuple[int, int, int] = (64, 64, 64),
    ) -> None:
        """Write a case so that it is complete or absent, even after an interruption.

        Locations are voxel indices (n, 3) of each class index; a typical patch size (Z, Y, X) determines the shape of the compressed
        blocks.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self._json(identifier).unlink(missing_ok=True)
        _write_array(self.folder / f"{identifier}.b2nd", case.image, (1, *patch_size))
        if case.labels is not None:
            _write_array(self.folder / f"{identifier}_labels.b2nd", case.labels, patch_size)
            voxels = np.concatenate([*class_locations.values(), np.zeros((0, 3), np.int32)]).astype(np.int32)
            _write_array(self.folder / f"{identifier}_locations.b2nd", voxels, voxels.shape)
        counts = {int(index): len(voxels) for index, voxels in class_locations.items()}
        properties = CaseProperties(
            key=key, trace=case.trace, images=images, labels=labels, annotated=annotated, class_counts=counts
        )
        properties.write(self._json(identifier))

    def is_current(self, identifier: str, key: str) -> bool:
        """Return whether the case is complete and has this key."""
        if not self._is_whole(identifier):
            return False
        try:
            return self.read(identifier).properties.key == key
        except InputError:  # of an older version or damaged, so it is regenerated
            return False

    def time_of(self, identifier: str) -> float:
        """Return when the case was written, in seconds since 1970."""
        return self._json(identifier).stat().st_mtime

    def remove(self, identifier: str) -> None:
        """Delete a case, first of all the file that marks it as complete."""
        self._json(identifier).unlink(missing_ok=True)
        for suffix in ("", *STORE_SUFFIXES):
            (self.folder / f"{identifier}{suffix}.b2nd").unlink(missing_ok=True)

    def _is_whole(self, identifier: str) -> bool:
        return self._json(identifier).is_file() and (self.folder / f"{identifier}.b2nd").is_file()

    def _json(self, identifier: str) -> Path:
        return self.folder / f"{identifier}.json"


def _open(path: Path) -> blosc2.NDArray:
    try:
        _raise_if_recipe(path)
        return blosc2.open(str(path), mode="r", dparams={"nthreads": 1})
    except (OSError, RuntimeError, ValueError, LookupError, TypeError) as error:
        remedy = "Run se_plan_and_preprocess again"
        raise InputError(fault_of(error, str(path), f"the stored array cannot be read ({error})", remedy)) from error


def _raise_if_recipe(path: Path) -> None:
    """Refuse files with more than an array before blosc2 opens them: versions before 4.14.1 run functions stored in a file.

    The header lists the metalayers, see https://www.blosc.org/c-blosc2/format/cframe_format.html.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file does not hold exactly one array.
    """
    with path.open("rb") as file:
        header = file.read(_LAYERS_AT + len(_ARRAY_ALONE))
    if header[_LAYERS_AT:] != _ARRAY_ALONE:
        raise ValueError("the file does not hold exactly one array")


def _write_array(path: Path, array: NDArray, patch: tuple[int, ...]) -> None:
    """Write an array in chunks of about a patch, and blocks that fit a core's cache."""
    chunks = _fit(array.shape, patch, _CHUNK_BYTES // array.itemsize)
    blocks = _fit(array.shape, chunks, _BLOCK_BYTES // array.itemsize)
    cparams = {"codec": blosc2.Codec.LZ4, "clevel": 5, "filters": [blosc2.Filter.SHUFFLE], "nthreads": 1}
    content = np.ascontiguousarray(array)
    with replacing(path) as temporary:
        try:
            blosc2.asarray(content, urlpath=str(temporary), mode="w", chunks=chunks, blocks=blocks, cparams=cparams)
        except RuntimeError:
            raise_if_full(temporary, content.nbytes)  # blosc2 does not say why it cannot write
            raise


def _fit(shape: tuple[int, ...], wanted: tuple[int, ...], limit: int) -> tuple[int, ...]:
    """Return `wanted` within `shape`, with its longest axis halved until it has at most `limit` voxels."""
    sizes = [max(1, min(size, want)) for size, want in zip(shape, wanted, strict=True)]
    while math.prod(sizes) > limit:
        longest = sizes.index(max(sizes))
        sizes[longest] = -(-sizes[longest] // 2)
    return tuple(sizes)
