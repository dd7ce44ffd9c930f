"""Phantoms: small synthetic 3D images with known truth, written as a dataset in the nnU-Net raw layout.

Each image shows a body with an `organ` (a smooth lobed ellipsoid) and a brighter `lesion` attached to it. Distractors (tubes and
boxes) have the same mean intensities, so that intensity alone does not tell them apart: their form and striped texture do. Sizes
differ three-fold between cases. Noise and a smooth bias field are added.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from configs.files import replacing, write_json

Vector = NDArray[np.float64]
LABELS = {"background": 0, "organ": 1, "lesion": 2}
BODY, ORGAN, LESION = 100.0, 170.0, 240.0  # mean intensities; air is 0
SIZE_RANGE = 3.0  # largest to smallest organ diameter
GOLDEN_RATIO = 0.5 * (1 + 5**0.5)
GAP = 2.0  # mm between organ or lesion and distractors
THICK_SLICES = (2.0, 1.0, 1.0)  # mm (Z, Y, X), of every fourth case; the others have cubes of 1 mm


@dataclass(frozen=True)
class Phantom:
    """One synthetic case.

    Attributes:
        image: (Z, Y, X) float32.
        labels: (Z, Y, X) uint8, values as in `LABELS`.
        spacing: mm (Z, Y, X).
    """

    image: NDArray[np.float32]
    labels: NDArray[np.uint8]
    spacing: tuple[float, float, float]


def write_phantoms(
    folder: Path,
    training: int = 24,
    unseen: int = 8,
    side: float = 48.0,
    seed: int = 0,
    spread: float = SIZE_RANGE,
    unseen_size: float = 1.0,
) -> None:
    """Write `imagesTr`, `labelsTr`, `imagesTs`, `labelsTs` and `dataset.json`. The same arguments give the same voxels.

    Args:
        folder: dataset folder; its name is the dataset's name.
        training, unseen: numbers of cases. Every fourth case has thick slices; the last training case and the first unseen
            one are stored in another orientation.
        side: field of view of each image in mm.
        seed: seed of all cases; a case depends on the seed and its number alone.
        spread: largest to smallest diameter of organs, before their own variation of 10 %.
        unseen_size: factor by which organ and lesion of unseen cases are larger, in images of the same extent.
    """
    for number in range(training + unseen):
        is_training = number < training
        spacing = THICK_SLICES if number % 4 == 3 else (1.0, 1.0, 1.0)
        position = (number + 0.5) * GOLDEN_RATIO % 1  # spreads the sizes evenly, in training and among the unseen
        size = spread ** (position - 0.5) * (1.0 if is_training else unseen_size)
        phantom = make_phantom(np.random.default_rng((seed, number)), side, spacing, size)
        orientation = "PSR" if number in (training - 1, training) else "RAS"
        name, suffix = f"phantom_{number:03d}", "Tr" if is_training else "Ts"
        _save(folder / f"images{suffix}" / f"{name}_0000.nii.gz", phantom.image, phantom.spacing, orientation)
        _save(folder / f"labels{suffix}" / f"{name}.nii.gz", phantom.labels, phantom.spacing, orientation)
    write_json(
        folder / "dataset.json",
        {"channel_names": {"0": "synthetic"}, "labels": LABELS, "numTraining": training, "file_ending": ".nii.gz"},
    )


def make_phantom(random: np.random.Generator, side: float, spacing: tuple[float, float, float], size: float = 1.0) -> Phantom:
    """Draw one case.

    Args:
        random: source of all random choices but the size.
        side: field of view in mm.
        spacing: mm (Z, Y, X).
        size: factor of the size of organ and lesion.
    """
    points = _voxel_centres(side, spacing)
    blur = float(np.mean(spacing))  # mm over which a surface goes from outside to inside
    radius = side * 0.18 * size
    centre = random.uniform(-1, 1, 3) * 0.8 * (side * 0.45 - radius)
    organ = _ellipsoid(points, centre, radius * random.uniform(0.9, 1.1, 3), random, lobes=0.12)
    direction = _unit(random)
    lesion = _ellipsoid(points, centre + 0.95 * radius * direction, 0.6 * radius * random.uniform(0.9, 1.1, 3), random)
    body = _ellipsoid(points, np.zeros(3), side * random.uniform(0.44, 0.5, 3), random)

    image = _paint(np.zeros(body.shape), body, BODY, blur)
    for depth, value in _distractors(points, side, random):
        image = _paint(image, np.minimum(depth, -np.maximum(organ, lesion) - GAP), value, blur)
    image = _paint(_paint(image, organ, ORGAN, blur), lesion, LESION, blur)
    image = image * _bias(points / side, random) + random.normal(0, 8, image.shape)
    labels = np.where(lesion > 0, LABELS["lesion"], np.where(organ > 0, LABELS["organ"], LABELS["background"]))
    return Phantom(image.astype(np.float32), labels.astype(np.uint8), spacing)


def _voxel_centres(side: float, spacing: Sequence[float]) -> Vector:
    """Positions (Z, Y, X, 3) in mm from the middle of the image."""
    axes = [(np.arange(round(side / step)) + 0.5) * step - side / 2 for step in spacing]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)


# The shapes below give the depth below the surface in mm, negative outside; exact for capsule and sphere, else approximate.


def _ellipsoid(points: Vector, centre: Vector, radii: Vector, random: np.random.Generator, lobes: float = 0.0) -> Vector:
    local = (points - centre) @ _rotation(random) / radii
    waves = np.sin(4 * local[..., 0] + 1) * np.sin(4 * local[..., 1]) + np.sin(4 * local[..., 2])
    return (1 - np.linalg.norm(local, axis=-1) * (1 + lobes * waves)) * radii.min()


def _capsule(points: Vector, start: Vector, end: Vector, radius: float) -> Vector:
    along = np.clip((points - start) @ (end - start) / np.sum((end - start) ** 2), 0, 1)
    return radius - np.linalg.norm(points - start - along[..., None] * (end - start), axis=-1)


def _box(points: Vector, centre: Vector, half: Vector, random: np.random.Generator) -> Vector:
    return (half - np.abs((points - centre) @ _rotation(random))).min(axis=-1)


def _distractors(points: Vector, side: float, random: np.random.Generator) -> Iterator[tuple[Vector, Vector]]:
    """Depth and striped intensity of one to three tubes and boxes."""
    for index in range(random.integers(1, 4)):
        size = side * 0.09 * SIZE_RANGE ** random.uniform(-0.5, 0.5)
        centre = _unit(random) * side * random.uniform(0.2, 0.38)
        wave = np.sin(points @ _unit(random) * 2 * np.pi / 6 + random.uniform(0, 6))  # stripes 6 mm apart
        value = (LESION if index % 3 == 2 else ORGAN) * (1 + 0.3 * wave)
        if index % 2:
            yield _box(points, centre, size * random.uniform(0.7, 1.4, 3), random), value
        else:
            reach = _unit(random) * side * 0.3
            yield _capsule(points, centre - reach, centre + reach, size * 0.6), value


def _paint(image: Vector, depth: Vector, value: Vector | float, blur: float) -> Vector:
    share = np.clip(depth / blur + 0.5, 0, 1)
    return image * (1 - share) + value * share


def _bias(points: Vector, random: np.random.Generator) -> Vector:
    """A smooth factor, mostly between 0.85 and 1.2; `points` from -0.5 to 0.5."""
    linear = points @ random.uniform(-0.15, 0.15, 3)
    quadratic = points**2 @ random.uniform(-0.25, 0.25, 3)
    return np.exp(linear + quadratic)


def _unit(random: np.random.Generator) -> Vector:
    vector = random.normal(size=3)
    return vector / np.linalg.norm(vector)


def _rotation(random: np.random.Generator) -> Vector:
    return np.linalg.qr(random.normal(size=(3, 3)))[0]


def _save(path: Path, array: NDArray, spacing: Sequence[float], orientation: str) -> None:
    """Write an array (Z, Y, X) that runs along RAS+ axes, stored in the given orientation."""
    z, y, x = spacing
    image = nib.nifti1.Nifti1Image(array.T, np.diag([x, y, z, 1.0]))
    change = nib.orientations.ornt_transform(
        nib.orientations.io_orientation(image.affine), nib.orientations.axcodes2ornt(orientation)
    )
    with replacing(path) as temporary:
        nib.save(image.as_reoriented(change), temporary)
