"""Segmentations of an oblique image lie where the structures are in space, in files that other programs read."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from inference import PredictionOptions, Predictor, predict_cases
from inference.prediction.predict_files import Extras, plan_outputs
from tests.inference.models import threshold_model

SHAPE = (24, 46, 62)  # voxels (Z, Y, X)
SPACING = np.array([0.9, 1.25, 2.6])  # mm (x, y, z)
TURNED = Rotation.from_euler("xyz", [24, -17, 38], degrees=True).as_matrix() @ np.diag([-1.0, 1.0, 1.0])  # also left-handed
CENTRE = np.array([31.0, -52.0, 14.0])  # of the image, RAS mm
BLOBS = (((-9.0, 6.0, 3.0), 7.5, 1.7), ((11.0, -8.0, -6.0), 5.0, 3.0))  # place about the centre in mm, width in mm, peak
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])  # ITK's axes to NIfTI's, and back
ENDINGS = (".nii.gz", ".nrrd", ".mha")


def affine_of(direction: NDArray[np.float64], spacing: NDArray[np.float64], middle: NDArray[np.float64]) -> NDArray[np.float64]:
    """Voxel indices (x, y, z) to RAS mm, with the image's middle at a point."""
    affine = np.eye(4)
    affine[:3, :3] = direction * spacing
    affine[:3, 3] = middle - affine[:3, :3] @ ((np.array(SHAPE[::-1]) - 1) / 2)
    return affine


def world(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """RAS mm of every voxel: (Z, Y, X, 3)."""
    z, y, x = np.meshgrid(*map(np.arange, SHAPE), indexing="ij")
    return np.stack([x, y, z], -1) @ affine[:3, :3].T + affine[:3, 3]


def intensity(points: NDArray[np.float64]) -> NDArray[np.float32]:
    """Two blobs, of which the sharper one is also the brighter."""
    total = np.zeros(points.shape[:-1])
    for place, width, peak in BLOBS:
        total += peak * np.exp(-((points - CENTRE - place) ** 2).sum(-1) / (2 * width**2))
    return total.astype(np.float32)


def labels_of(values: NDArray[np.float32]) -> NDArray[np.int64]:
    """What `threshold_model` gives, without any grid in between."""
    return np.select([values > 2, values > 1], [7, 3], 0)


def write(path: Path, values: NDArray[np.float32], affine: NDArray[np.float64]) -> None:
    if path.suffix == ".gz":
        nib.save(nib.Nifti1Image(values.T, affine), path)
        return
    image = SimpleITK.GetImageFromArray(values)
    in_itk = LPS @ affine
    image.SetSpacing(SPACING.tolist())
    image.SetDirection((in_itk[:3, :3] / SPACING).ravel().tolist())
    image.SetOrigin(in_itk[:3, 3].tolist())
    SimpleITK.WriteImage(image, str(path))


def read(path: Path) -> tuple[NDArray[np.integer], NDArray[np.float64]]:
    """Labels (Z, Y, X) and affine, by nibabel or SimpleITK alone."""
    if path.suffix == ".gz":
        image = nib.load(path)
        return np.asanyarray(image.dataobj).T, image.affine
    read = SimpleITK.ReadImage(str(path))
    affine = np.eye(4)
    affine[:3, :3] = np.array(read.GetDirection()).reshape(3, 3) * read.GetSpacing()
    affine[:3, 3] = read.GetOrigin()
    return SimpleITK.GetArrayFromImage(read), LPS @ affine


def off_by(labels: NDArray[np.integer], affine: NDArray[np.float64]) -> float:
    """Largest distance, in the smallest voxel's lengths, of a label's centroid from that of the labels made in space."""
    points = world(affine)
    truth_points = world(affine_of(TURNED, SPACING, CENTRE))
    truth = labels_of(intensity(truth_points))
    distances = [np.linalg.norm(points[labels == value].mean(0) - truth_points[truth == value].mean(0)) for value in (3, 7)]
    return float(max(distances) / SPACING.min())


@pytest.mark.parametrize("planned", [(1.0, 1.0, 1.0), (1.7, 1.3, 1.1)])
@pytest.mark.parametrize("ending", ENDINGS)
def test_an_oblique_image_is_segmented_in_its_place(tmp_path: Path, ending: str, planned: tuple[float, float, float]) -> None:
    affine = affine_of(TURNED, SPACING, CENTRE)
    write(tmp_path / f"a_0000{ending}", intensity(world(affine)), affine)
    cases = {"a": (tmp_path / f"a_0000{ending}",)}
    outputs = plan_outputs(cases, tmp_path / "out")
    predictor = Predictor(threshold_model(planned), "cpu", PredictionOptions(mirror=False, scales=(1.0,)))
    assert predict_cases(predictor, cases, outputs, extras=Extras(preview=True)) == {}
    labels, written = read(outputs["a"])
    np.testing.assert_allclose(written, affine, atol=1e-4)
    truth = labels_of(intensity(world(affine)))
    for value in (3, 7):
        both = ((labels == value) & (truth == value)).sum()
        assert 2 * both / ((labels == value).sum() + (truth == value).sum()) > 0.9
    assert off_by(labels, written) < 0.5
    # Negative controls: labels whose direction is lost, or whose axes go the other way, lie elsewhere.
    middle = written[:3, :3] @ ((np.array(SHAPE[::-1]) - 1) / 2) + written[:3, 3]
    assert off_by(labels, affine_of(np.eye(3), SPACING, middle)) > 2
    assert off_by(labels[:, :, ::-1], written) > 2
    assert list((tmp_path / "out").rglob("*.png"))
