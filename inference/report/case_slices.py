"""Draw slices of a validated case with reference and prediction, compact enough for a page."""

import base64
import io
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image
from skimage.measure import approximate_polygon, find_contours

from configs.dataset import DatasetDescription
from configs.errors import Fault, InputError, tolerating
from configs.folders import ModelFolder
from configs.plan import Orientation
from inference.outputs.viewer.planes import MOST, Layer, PackedPlanes, pack_planes
from inference.report.scoring import notable, ranked
from inference.report.trained import TrainedModel
from inference.selection.candidates import find_sources
from preprocessing.dataset.labels import to_class_indices
from preprocessing.formats.images import read_image, read_labels
from preprocessing.geometry.orientation import find_turn
from preprocessing.geometry.same_grid import require_same_grid
from preprocessing.pages.drawn_image import drawn_image

_MOST_PIXELS = 384  # along a side
_PHOTO = 128 * 128  # pixels above which a slice is stored as JPEG
_WINDOW = (0.5, 99.5)  # percentiles shown as black and white
_FINENESS = 300  # voxels along a side above which outlines are simplified


@dataclass(frozen=True)
class Outline:
    """Outlines of a label in one slice, as SVG paths in half voxels from the upper left corner."""

    colour: str
    reference: Markup
    prediction: Markup


@dataclass(frozen=True)
class Slice:
    """One slice."""

    position: int  # index along Z
    picture: str  # image as a data URI
    width: int  # half voxels
    height: int  # half voxels
    ratio: str  # width divided by height in mm, as CSS
    outlines: tuple[Outline, ...]


@dataclass(frozen=True)
class SegmentedCase:
    """A case in the plan's orientation, with Y reversed so that rows are drawn from front to back."""

    identifier: str
    image: NDArray  # first channel (Z, Y, X) float32, or colours (Z, Y, X, 3) uint8
    reference: NDArray[np.int16]  # class indices (Z, Y, X)
    prediction: NDArray[np.int16]  # class indices (Z, Y, X)
    spacing: tuple[float, float, float]  # (Z, Y, X) in mm

    @property
    def occupied(self) -> NDArray[np.bool_]:
        """Voxels with a label in reference or prediction."""
        return (self.reference > 0) | (self.prediction > 0)


def load_segmented(
    dataset_folder: Path, prediction: Path, identifier: str, description: DatasetDescription, orientation: Orientation
) -> SegmentedCase:
    """Load a validated case from the label file of its validation, and the original files that the prepared case in WORK records.

    Raises:
        InputError: a file is missing, unreadable or has unknown labels, or shapes differ.
    """
    source = find_sources(dataset_folder, [identifier])[identifier]
    image, geometry = read_image(list(source.images))
    reference, grid = read_labels(source.labels)
    predicted, predicted_grid = read_labels(prediction)
    if predicted.shape != reference.shape or image.shape[1:] != reference.shape:
        problem = f"image {image.shape[1:]}, reference {reference.shape} and prediction {predicted.shape} differ in shape"
        raise InputError(Fault(f"case `{identifier}`", problem, "Validate the fold again with se_train --validate-only"))
    require_same_grid(f"case `{identifier}`", f"the label file {source.labels}", grid, geometry)
    require_same_grid(f"case `{identifier}`", f"the prediction {prediction}", predicted_grid, geometry)
    turn = find_turn(geometry, orientation)
    drawn = [
        np.ascontiguousarray(turn.apply(to_class_indices(labels, description))[:, ::-1]) for labels in (reference, predicted)
    ]
    shown = np.ascontiguousarray(drawn_image(turn.apply(image), description)[:, ::-1])
    return SegmentedCase(identifier, shown, drawn[0], drawn[1], turn.apply_geometry(geometry).spacing)


def cut_slices(
    case: SegmentedCase, positions: Sequence[int], description: DatasetDescription, colours: Sequence[str], *, close: bool
) -> list[Slice]:
    """Draw the slices at these positions along Z, with outlines in the colours of the foreground labels.

    `close` crops them to the surroundings of the labels.
    """
    rows, columns = _frame(case) if close else (slice(None), slice(None))
    window = _window(case.image)
    slices = []
    for position in positions:
        image = case.image[position, rows, columns]
        reference, prediction = case.reference[position, rows, columns], case.prediction[position, rows, columns]
        height, width = reference.shape
        present = set(np.unique(reference)) | set(np.unique(prediction))
        outlines = [
            Outline(colour, _path(np.isin(reference, members)), _path(np.isin(prediction, members)))
            for colour, members in zip(colours, map(description.class_indices, description.foreground), strict=True)
            if present & set(members)
        ]
        ratio = f"{width * case.spacing[2]:.5g} / {height * case.spacing[1]:.5g}"
        slices.append(Slice(position, _encode(image, window), 2 * width, 2 * height, ratio, tuple(outlines)))
    return slices


def spread(case: SegmentedCase, number: int, margin: int = 0) -> list[int]:
    """Return at most `number` slices, evenly over the part of Z with labels plus `margin`, or over all of Z without labels."""
    depth = len(case.image)
    found = np.flatnonzero(case.occupied.any(axis=(1, 2)))
    first, last = (int(found[0]), int(found[-1])) if found.size else (0, depth - 1)
    first, last = max(0, first - margin), min(depth - 1, last + margin)
    if last - first < number:
        return list(range(first, last + 1))
    middles = first + (np.arange(number) + 0.5) * (last - first + 1) / number
    return [int(middle) for middle in middles]


def _frame(case: SegmentedCase) -> tuple[slice, slice]:
    """Return rows and columns around all labels, with a margin of a third of their extent; all if there are no labels."""
    occupied = np.any(case.occupied, axis=0)
    if not np.any(occupied):
        return slice(None), slice(None)
    parts = []
    for axis in (0, 1):
        found = np.unique(np.nonzero(occupied)[axis])
        margin = max(4, (int(found[-1]) - int(found[0]) + 1) // 3)
        parts.append(slice(max(0, int(found[0]) - margin), int(found[-1]) + margin + 1))
    return parts[0], parts[1]


def _window(image: NDArray) -> tuple[float, float]:
    low, high = (float(end) for end in np.percentile(image, _WINDOW))
    return low, high if high > low else low + 1


def _encode(image: NDArray, window: tuple[float, float]) -> str:
    picture = Image.fromarray(image if image.ndim == 3 else in_window(image, window))
    if max(picture.size) > _MOST_PIXELS:
        factor = _MOST_PIXELS / max(picture.size)
        picture = picture.resize(
            (max(1, round(picture.width * factor)), max(1, round(picture.height * factor))), Image.Resampling.BOX
        )
    kind = "png" if picture.width * picture.height <= _PHOTO else "jpeg"
    stored = io.BytesIO()
    picture.save(stored, format=kind, **({"optimize": True} if kind == "png" else {"quality": 88}))
    return f"data:image/{kind};base64,{base64.b64encode(stored.getvalue()).decode('ascii')}"


def in_window(image: NDArray, window: tuple[float, float]) -> NDArray[np.uint8]:
    """Return grey values from 0 to 255 between the ends of a window."""
    low, high = window
    grey = np.clip(np.nan_to_num((image - low) / (high - low)), 0, 1) * 255
    return grey.astype(np.uint8)


def _path(mask: NDArray[np.bool_]) -> Markup:
    """Return the outlines of a mask in half voxels, as rings of relative steps, which keeps numbers short."""
    if not mask.any():
        return Markup("")
    tolerance = 0.0 if max(mask.shape) <= _FINENESS else 0.3 * max(mask.shape) / _FINENESS
    rings = []
    for contour in find_contours(np.pad(mask, 1).astype(np.float32), 0.5):
        points = approximate_polygon(contour, tolerance) if tolerance else contour
        corners = np.rint(2 * (points - 0.5)).astype(int)[:, ::-1]  # half voxels (x, y); voxel 0 begins at 0, and the pad is 1
        steps = np.diff(corners, axis=0)[:-1]  # the last one closes the ring
        turns = " ".join(f"{x} {y}" for x, y in steps.tolist())
        rings.append(f"M{corners[0, 0]} {corners[0, 1]}l{turns}z")
    return Markup("".join(rings))


_logger = logging.getLogger(__name__)
MONTAGE = 6  # slices
VIEWER = 64  # slices at most
_AROUND = 3  # slices of a viewer beyond the labels


@dataclass(frozen=True)
class ShownCase:
    """A case with its slices, or the reason why there are none."""

    identifier: str
    anchor: str
    why: str
    dice: float
    problem: str = ""
    montage: Sequence[Slice] = ()
    viewer: Sequence[Slice] = ()
    start: int = 0
    planes: PackedPlanes | None = None


def show_cases(model: TrainedModel, colours: Sequence[str], worst: int) -> list[ShownCase]:
    """Load and draw the worst cases, the median case and the best case, with a colour for each label."""
    dice, chosen = dict(ranked(model)), notable(model, max(1, worst))
    viewed = [case for case, why in chosen.items() if why.startswith(("worst", "the worst"))][:worst]
    shown = []
    for number, (case, why) in enumerate(chosen.items(), start=1):
        plain = ShownCase(case, f"case-{number}", why, dice[case])
        with tolerating() as faults:
            shown.append(_with_pictures(plain, model, colours, MOST // len(chosen), case in viewed))
        if faults:
            problem = " ".join(map(str, faults))
            _logger.warning("left out of the report, slices of case `%s`: %s", case, problem)
            shown.append(replace(plain, problem=problem))
    return shown


def _with_pictures(shown: ShownCase, model: TrainedModel, colours: Sequence[str], most: int, with_viewer: bool) -> ShownCase:
    description, plan = model.plan.dataset, model.plan
    folder = ModelFolder(model.folder)
    prediction = folder.fold(model.scores.fold_of[shown.identifier]).validation.segmentation(shown.identifier)
    dataset_folder = folder.dataset.path
    case = load_segmented(dataset_folder, prediction, shown.identifier, description, plan.orientation)
    layers = [Layer("reference", case.reference, is_filled=True), Layer("prediction", case.prediction, is_filled=False)]
    planes = pack_planes(case.identifier, case.image, layers, case.spacing, description, colours, most)
    montage = cut_slices(case, spread(case, MONTAGE), description, colours, close=True)
    shown = replace(shown, montage=montage, planes=planes)
    if not with_viewer:
        return shown
    positions = spread(case, VIEWER, _AROUND)
    fullest = int(case.occupied[positions].sum(axis=(1, 2)).argmax())
    return replace(shown, viewer=cut_slices(case, positions, description, colours, close=False), start=fullest)
