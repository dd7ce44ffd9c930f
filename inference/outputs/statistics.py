"""Measure each label of a segmentation: volume, position, intensity and components."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from configs.dataset import DatasetDescription, label_values
from configs.files import Value
from inference.outputs.label_box import LabelBox, label_box
from inference.sizes.calibration import Expected
from inference.sizes.quality import Quality
from preprocessing.geometry.affine import Geometry
from preprocessing.tables import write_table


class LabelStatistics(Value):
    """Statistics of one label of one case; None if undefined because the label is absent."""

    volume_mm3: float
    voxels: int
    components: int  # number of connected components (26 neighbours)
    centroid_r: float | None = None  # mean position in mm to the right, by the image's affine
    centroid_a: float | None = None  # to anterior
    centroid_s: float | None = None  # to superior
    first_x: int | None = None  # bounding box in stored voxel indices (x, y, z), including both ends
    first_y: int | None = None
    first_z: int | None = None
    last_x: int | None = None
    last_y: int | None = None
    last_z: int | None = None
    mean_intensity: float | None = None  # mean of the image's first channel
    expected_dice: float | None = None  # expected Dice, where the model is calibrated
    expected_low: float | None = None  # ends of the interval that holds the Dice with 90 % probability
    expected_high: float | None = None


def measure_labels(
    labels: NDArray[np.integer],
    image: NDArray[np.float32],
    geometry: Geometry,
    description: DatasetDescription,
    roi: Sequence[str] | None = None,
    quality: Quality | None = None,
) -> dict[str, LabelStatistics]:
    """Measure each foreground label or region of stored label values (Z, Y, X), or only those in `roi`.

    The stored image (C, Z, Y, X) has the same geometry.
    """
    boxes = ndimage.find_objects(labels)
    names = [name for name in description.foreground if roi is None or name in roi]
    measured = {name: _measure(name, labels, image[0], geometry, description, boxes) for name in names}
    expected = {} if quality is None else quality.expected
    return {name: _with_expected(one, expected.get(name)) for name, one in measured.items()}


def _with_expected(measured: LabelStatistics, expected: Expected | None) -> LabelStatistics:
    if expected is None:
        return measured
    ends = {"expected_dice": expected.dice, "expected_low": expected.low, "expected_high": expected.high}
    return measured.model_copy(update=ends)


def _measure(
    name: str,
    labels: NDArray[np.integer],
    channel: NDArray[np.float32],
    geometry: Geometry,
    description: DatasetDescription,
    boxes: Sequence[LabelBox | None],
) -> LabelStatistics:
    values = label_values(description, name)
    box = label_box(boxes, values)
    if box is None:
        return LabelStatistics(volume_mm3=0.0, voxels=0, components=0)
    starts, stops = [part.start for part in box], [part.stop for part in box]
    mask = np.isin(labels[box], values)
    measured = cc3d.statistics(mask.astype(np.uint8))
    voxels = int(measured["voxel_counts"][1])
    z, y, x = measured["centroids"][1]
    centre = geometry.matrix @ [x + starts[2], y + starts[1], z + starts[0], 1]
    pieces = cc3d.connected_components(mask, connectivity=26, return_N=True)[1]
    return LabelStatistics(
        volume_mm3=voxels * geometry.voxel_volume,
        voxels=voxels,
        components=int(pieces),
        centroid_r=float(centre[0]),
        centroid_a=float(centre[1]),
        centroid_s=float(centre[2]),
        first_x=starts[2],
        first_y=starts[1],
        first_z=starts[0],
        last_x=stops[2] - 1,
        last_y=stops[1] - 1,
        last_z=stops[0] - 1,
        mean_intensity=float(channel[box][mask].mean(dtype=np.float64)),
    )


def write_statistics(path: Path, cases: Mapping[str, Mapping[str, LabelStatistics]]) -> None:
    """Write one row for each case and label atomically; undefined values are empty."""
    rows = ([case, label, *one.model_dump().values()] for case, measured in cases.items() for label, one in measured.items())
    write_table(path, ["case", "label", *LabelStatistics.model_fields], rows)
