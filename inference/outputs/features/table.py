"""The table of features of all labels of a case."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from configs.dataset import DatasetDescription, label_values
from inference.outputs.features.intensity import INTENSITY, intensity_features
from inference.outputs.features.shape import SHAPE, shape_features
from inference.outputs.label_box import label_box
from preprocessing.geometry.affine import Geometry
from preprocessing.tables import write_table

_EMPTY = (slice(0, 0),) * 3


@dataclass(frozen=True)
class LabelFeatures:
    """Features of a label in one channel."""

    label: str  # name of the label or region
    channel: str  # name of the channel
    features: Mapping[str, float | None]  # name of PyRadiomics -> value; None where it is undefined


def measure_features(
    labels: NDArray[np.integer],
    image: NDArray[np.float32],
    geometry: Geometry,
    description: DatasetDescription,
    roi: Sequence[str] | None = None,
) -> list[LabelFeatures]:
    """Measure each foreground label or region of stored label values (Z, Y, X), or only those in `roi`, in each channel.

    The stored image (C, Z, Y, X) has the same geometry. The shape is the same in all channels.
    """
    boxes, found = ndimage.find_objects(labels), []
    for name in description.foreground:
        if roi is None or name in roi:
            values = label_values(description, name)
            box = label_box(boxes, values) or _EMPTY
            mask = np.isin(labels[box], values)
            shape = shape_features(mask, geometry.spacing)
            for channel, volume in zip(description.channel_titles, image, strict=True):
                found.append(LabelFeatures(name, channel, shape | intensity_features(volume[box][mask])))
    return found


def write_features(path: Path, case: str, measured: Iterable[LabelFeatures]) -> None:
    """Write one row for each label and channel atomically; undefined values are empty."""
    write_table(path, ["case", "label", "channel", *SHAPE, *INTENSITY], _rows(case, measured))


def _rows(case: str, measured: Iterable[LabelFeatures]) -> Iterator[list[object]]:
    for one in measured:
        yield [case, one.label, one.channel, *(one.features[name] for name in (*SHAPE, *INTENSITY))]
