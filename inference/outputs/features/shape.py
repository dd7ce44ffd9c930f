"""Features of a label's shape, by the definitions and names of PyRadiomics (van Griethuysen et al. 2017, class `shape`)."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from inference.outputs.features.diameter import largest_diameter
from inference.outputs.features.mesh import PART, mesh_area_and_volume

SHAPE = (
    "MeshVolume",
    "VoxelVolume",
    "SurfaceArea",
    "SurfaceVolumeRatio",
    "Sphericity",
    "Maximum3DDiameter",
    "MajorAxisLength",
    "MinorAxisLength",
    "LeastAxisLength",
    "Elongation",
    "Flatness",
)


def shape_features(mask: NDArray[np.bool_], spacing: Sequence[float]) -> dict[str, float | None]:
    """Return the features of a mask (Z, Y, X) with this spacing (Z, Y, X) in mm, named as in `SHAPE`; None where undefined.

    Lengths are in mm, areas in mm^2, volumes in mm^3. With the mesh's area A and volume V, sphericity is (36 pi V^2)^(1/3) / A. With the
    eigenvalues l1 >= l2 >= l3 of the covariance of the voxel centres, the axes are 4 sqrt(l), elongation is sqrt(l2 / l1), and flatness
    sqrt(l3 / l1).
    """
    if not mask.any():
        return dict.fromkeys(SHAPE) | {"VoxelVolume": 0.0}
    area, volume = mesh_area_and_volume(mask, spacing)
    major, minor, least = (4 * math.sqrt(variance) for variance in principal_variances(mask, spacing))
    values = (
        volume,
        int(np.count_nonzero(mask)) * math.prod(spacing),
        area,
        area / volume,
        (36 * math.pi * volume**2) ** (1 / 3) / area,
        largest_diameter(mask, spacing),
        major,
        minor,
        least,
        minor / major if major else None,
        least / major if major else None,
    )
    return dict(zip(SHAPE, values, strict=True))


def principal_variances(mask: NDArray[np.bool_], spacing: Sequence[float], part: int = PART) -> tuple[float, ...]:
    """Return the variances in mm^2 of the voxel centres of a mask (Z, Y, X) along their three principal axes, largest first.

    The moments are summed over slabs of at most `part` voxels, to save memory.
    """
    step = max(1, part // math.prod(mask.shape[1:]))
    number, sums, products = 0, np.zeros(3), np.zeros((3, 3))
    for start in range(0, len(mask), step):
        points = (np.argwhere(mask[start : start + step]) + np.array([start, 0, 0])) * np.asarray(spacing)
        number, sums, products = number + len(points), sums + points.sum(axis=0), products + points.T @ points
    covariance = products / number - np.outer(sums, sums) / number**2
    found = np.linalg.eigvalsh(covariance)[::-1]
    rounding = 1e-12 * float(np.abs(products).max()) / number
    return tuple(float(variance) if variance > rounding else 0.0 for variance in found)
