import numpy as np
import pytest

from planners.fingerprint.measure import make_fingerprint
from planners.plan import make_plan
from planners.report.median_case import load_slices, patch_start, typical_case
from preprocessing.dataset.raw import open_dataset
from tests.planners.report.datasets import case, sizes
from tests.preprocessing.datasets import SHAPE, affine, image, labels, make_dataset, save


def test_typical_case_holds_most_labels_and_is_of_median_size():
    both = {"liver": sizes(9), "tumour": sizes(9)}
    cases = {
        "large": case(both, shape=(90, 90, 90)),
        "middle": case(both, shape=(61, 60, 60)),
        "small": case(both, shape=(20, 20, 20)),
        "exact": case({"liver": sizes(9), "tumour": sizes()}, shape=(60, 60, 60)),
    }
    assert typical_case(cases) == "middle"
    assert typical_case({name: cases[name] for name in reversed(cases)}) == "middle"


@pytest.mark.parametrize("flips", ["", "xz"])
def test_slices_meet_in_a_labelled_voxel(tmp_path, flips):
    folder = make_dataset(tmp_path / "data", cases=1, affine=affine((1, 2, 3), (0, np.pi / 2, 0), flips))
    dataset = open_dataset(folder)
    fingerprint = make_fingerprint(dataset)
    slices = load_slices(dataset, fingerprint, make_plan(dataset.description, fingerprint))
    assert slices.spacing == pytest.approx((1, 2, 3)) and slices.extent == pytest.approx((10, 24, 42))
    z, y, x = (int(position // length) for position, length in zip(slices.centre, slices.spacing, strict=True))
    across_z, across_y, across_x = slices.labels
    assert across_z[y, x] == across_y[z, x] == across_x[z, y] > 0
    shared = slices.images[0][y, x]
    assert shared == slices.images[1][z, x] == slices.images[2][z, y]


def test_hollow_and_absent_labels_have_a_middle(tmp_path):
    folder = make_dataset(tmp_path / "data", cases=1)
    shell = labels()
    shell[3:7, 3:8, 4:10] = 0
    save(folder / "labelsTr/case_0.nii.gz", shell)
    dataset = open_dataset(folder)
    fingerprint = make_fingerprint(dataset)
    plan = make_plan(dataset.description, fingerprint)
    assert all(cut.any() for cut in load_slices(dataset, fingerprint, plan).labels)
    save(folder / "labelsTr/case_0.nii.gz", np.zeros(SHAPE, np.uint8))
    save(folder / "imagesTr/case_0_0000.nii.gz", image(1))
    assert load_slices(dataset, fingerprint, plan).centre == (7.5, 6.5, 5.5)


@pytest.mark.parametrize(
    ("centre", "size", "extent", "start"),
    [(50, 20, 100, 40), (5, 20, 100, 0), (97, 20, 100, 80), (50, 100, 100, 0), (10, 120, 100, -10)],
)
def test_patch_lies_within_the_image_where_it_fits(centre, size, extent, start):
    assert patch_start(centre, size, extent) == start
