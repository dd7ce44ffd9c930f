"""Pictures of slices and the outlines over them."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from configs.errors import InputError
from inference.report.case_slices import SegmentedCase, _path, cut_slices, load_segmented, spread
from preprocessing.formats.images import write_labels
from preprocessing.geometry.affine import Geometry
from tests.inference.models import LABELS
from tests.inference.report.models import SHAPE, SPACING, write_trained


def painted(path: str, shape: tuple[int, int]) -> np.ndarray:
    """The voxels whose centres an SVG path encloses, by the even-odd rule."""
    inside = np.zeros(shape, bool)
    for start_x, start_y, steps in re.findall(r"M(-?\d+) (-?\d+)l([-\d ]*)z", path):
        moves = np.array(steps.split(), dtype=int).reshape(-1, 2)
        start = np.array([[int(start_x), int(start_y)]])
        corners = np.concatenate([start, start + moves.cumsum(0)])
        for row in range(shape[0]):
            y = 2 * row + 1.25  # beside the corners, which lie on whole numbers
            crossings = []
            for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
                if (y0 <= y) != (y1 <= y):
                    crossings.append(x0 + (y - y0) * (x1 - x0) / (y1 - y0))
            for column in range(shape[1]):
                inside[row, column] ^= sum(crossing < 2 * column + 1 for crossing in crossings) % 2 == 1
    return inside


def test_outlines_enclose_the_mask() -> None:
    mask = np.random.default_rng(0).random((9, 11)) > 0.5
    mask[2:6, 3:9] = True
    mask[3, 4:6] = False  # a hole
    assert (painted(_path(mask), mask.shape) == mask).all()
    assert _path(np.zeros((3, 3), bool)) == ""


def a_case(shape=(20, 30, 40)) -> SegmentedCase:
    image = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    reference, prediction = np.zeros(shape, np.int16), np.zeros(shape, np.int16)
    reference[5:15, 10:20, 10:30], prediction[6:16, 12:20, 12:30] = 1, 2
    return SegmentedCase("c", image, reference, prediction, (3.0, 1.0, 2.0))


def decoded(uri: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",", 1)[1]))))


def test_slices_lie_in_the_labelled_part() -> None:
    case = a_case()
    assert spread(case, 100) == list(range(5, 16)) and spread(case, 100, 3) == list(range(2, 19))
    six = spread(case, 6)
    assert len(six) == 6 and six == sorted(set(six)) and six[0] >= 5 and six[-1] <= 15
    empty = SegmentedCase("c", case.image, case.reference * 0, case.reference * 0, case.spacing)
    assert spread(empty, 100) == list(range(20))


def test_slices_have_the_proportions_of_the_anatomy() -> None:
    whole, near = (cut_slices(a_case(), [8], LABELS, ["#111111", "#222222"], close=close)[0] for close in (False, True))
    assert (whole.width, whole.height, whole.ratio) == (80, 60, "80 / 30")
    assert near.width < whole.width and near.height < whole.height
    assert decoded(whole.picture).shape == (30, 40)
    assert [bool(outline.reference) for outline in whole.outlines] == [True, False]
    assert [bool(outline.prediction) for outline in whole.outlines] == [False, True]


def test_large_slices_are_made_smaller() -> None:
    image = np.random.default_rng(0).random((1, 1000, 500)).astype(np.float32)
    zeros = np.zeros(image.shape, np.int16)
    cut = cut_slices(SegmentedCase("c", image, zeros, zeros, (1.0, 1.0, 1.0)), [0], LABELS, ["#111111", "#222222"], close=True)[0]
    assert decoded(cut.picture).shape == (384, 192) and cut.picture.startswith("data:image/jpeg") and cut.width == 1000


def test_a_case_is_drawn_with_the_front_up(tmp_path) -> None:
    folder = write_trained(tmp_path)
    case = load_segmented(folder.parent.parent, folder / "fold_0/validation/c1.nii.gz", "c1", LABELS, "canonical")
    assert case.image.shape == SHAPE and case.spacing == SPACING
    assert case.reference[3:9, -12:-4].any() and not case.reference[:, :4].any()  # y of 4 to 12 is now counted from below
    assert set(np.unique(case.reference)) == {0, 1, 2} and (case.prediction != case.reference).any()


def test_a_prediction_of_another_shape_is_told(tmp_path) -> None:
    folder = write_trained(tmp_path)
    path = folder / "fold_0/validation/c0.nii.gz"
    write_labels(path, np.zeros((4, 4, 4), np.uint8), Geometry.from_spacing((4, 4, 4), SPACING))
    with pytest.raises(InputError, match="differ in shape"):
        load_segmented(folder.parent.parent, path, "c0", LABELS, "canonical")
