"""Phantoms are reproducible and show what they promise."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from benchmarks.demo.phantoms import GOLDEN_RATIO, LABELS, SIZE_RANGE, THICK_SLICES, make_phantom, write_phantoms


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "Phantoms"
    write_phantoms(folder, training=4, unseen=2, side=24.0, seed=3)
    return folder


def test_same_seed_same_voxels(folder: Path, tmp_path: Path) -> None:
    write_phantoms(tmp_path, training=4, unseen=0, side=24.0, seed=3)
    for name in ("imagesTr/phantom_003_0000.nii.gz", "labelsTr/phantom_003.nii.gz"):
        first, again = (nib.load(place / name).get_fdata() for place in (folder, tmp_path))
        assert np.array_equal(first, again)


def test_every_case_has_every_label_and_one_grid(folder: Path) -> None:
    labels = sorted(folder.glob("labelsT?/*.nii.gz"))
    assert len(labels) == 6
    for path in labels:
        image_folder = folder / path.parent.name.replace("labels", "images")
        image = nib.load(image_folder / path.name.replace(".nii.gz", "_0000.nii.gz"))
        truth = nib.load(path)
        assert set(np.unique(truth.dataobj)) == set(LABELS.values())
        assert image.shape == truth.shape
        assert np.array_equal(image.affine, truth.affine)


def test_some_cases_have_thick_slices_or_another_orientation(folder: Path) -> None:
    training = [nib.load(path) for path in sorted((folder / "imagesTr").iterdir())]
    assert ["".join(nib.aff2axcodes(image.affine)) for image in training] == ["RAS", "RAS", "RAS", "PSR"]
    assert training[0].header.get_zooms() == (1, 1, 1)
    assert sorted(training[3].header.get_zooms()) == sorted(THICK_SLICES)


def test_orientation_moves_no_anatomy(folder: Path) -> None:
    stored = nib.load(folder / "labelsTr" / "phantom_003.nii.gz")
    canonical = nib.as_closest_canonical(stored)
    drawn = make_phantom(np.random.default_rng((3, 3)), 24.0, THICK_SLICES, SIZE_RANGE ** (3.5 * GOLDEN_RATIO % 1 - 0.5))
    assert np.array_equal(np.asarray(canonical.dataobj).T, drawn.labels)


def test_sizes_differ_three_fold() -> None:
    drawn = [make_phantom(np.random.default_rng(0), 48.0, (1.0, 1.0, 1.0), size).labels for size in (3**-0.5, 3**0.5)]
    small, large = np.cbrt([np.count_nonzero(labels) for labels in drawn])
    assert 0.9 * SIZE_RANGE < large / small < 1.1 * SIZE_RANGE


def test_intensity_alone_does_not_tell_the_organ() -> None:
    phantoms = [make_phantom(np.random.default_rng((0, number)), 52.0, (2.0, 2.0, 2.0)) for number in range(8)]
    image, labels = (np.stack([getattr(phantom, name) for phantom in phantoms]) for name in ("image", "labels"))
    organ, outside = image[labels == LABELS["organ"]], image[labels == LABELS["background"]]
    low, high = np.percentile(organ, (10, 90))
    assert np.count_nonzero((low < outside) & (outside < high)) > 0.05 * organ.size
