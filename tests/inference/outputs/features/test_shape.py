"""Features of shape against bodies whose size is known, and against all pairs of vertices."""

import math
import tracemalloc
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.distance import pdist
from skimage.measure import marching_cubes

from inference.outputs.features.diameter import largest_diameter
from inference.outputs.features.mesh import mesh_area_and_volume
from inference.outputs.features.shape import SHAPE, principal_variances, shape_features

SPACINGS = [(1.0, 1.0, 1.0), (2.0, 1.0, 0.7), (0.5, 0.8, 0.8)]


def ellipsoid(radii: Sequence[float], spacing: Sequence[float]) -> NDArray[np.bool_]:
    """Voxels whose centres lie in an ellipsoid with these radii (Z, Y, X) in mm."""
    sizes = [2 * int(radius / step) + 3 for radius, step in zip(radii, spacing, strict=True)]
    axes = [(np.arange(size) - (size - 1) / 2) * step / radius for size, step, radius in zip(sizes, spacing, radii, strict=True)]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    return z**2 + y**2 + x**2 <= 1


def noise(seed: int, share: float = 0.3) -> NDArray[np.bool_]:
    return np.random.default_rng(seed).random((9, 10, 11)) < share


@pytest.mark.parametrize("spacing", SPACINGS)
def test_an_ellipsoid(spacing: tuple[float, float, float]) -> None:
    radii = (12.0, 24.0, 18.0)
    found = shape_features(ellipsoid(radii, spacing), spacing)
    volume = 4 / 3 * math.pi * math.prod(radii)
    assert found["MeshVolume"] == pytest.approx(volume, rel=0.01) and found["VoxelVolume"] == pytest.approx(volume, rel=0.01)
    # A solid ellipsoid has the variance r^2 / 5 along an axis of radius r.
    for name, radius in (("MajorAxisLength", 24), ("MinorAxisLength", 18), ("LeastAxisLength", 12)):
        assert found[name] == pytest.approx(4 * radius / math.sqrt(5), rel=0.02)
    assert found["Elongation"] == pytest.approx(18 / 24, rel=0.02) and found["Flatness"] == pytest.approx(12 / 24, rel=0.02)
    assert found["Maximum3DDiameter"] == pytest.approx(48, rel=0.04)


@pytest.mark.parametrize("spacing", SPACINGS)
def test_a_ball_has_the_surface_of_its_steps(spacing: tuple[float, float, float]) -> None:
    """A mask has steps, so that its mesh has more surface than the ball: known of marching cubes on masks, and told on the page."""
    found = shape_features(ellipsoid((20, 20, 20), spacing), spacing)
    assert 1.05 < found["SurfaceArea"] / (4 * math.pi * 20**2) < 1.17
    assert 0.85 < found["Sphericity"] < 0.95
    assert found["SurfaceVolumeRatio"] == found["SurfaceArea"] / found["MeshVolume"]


@pytest.mark.parametrize("spacing", SPACINGS)
def test_a_box_without_its_edges(spacing: tuple[float, float, float]) -> None:
    """The mesh of a box is that of its voxel centres, with sides a, b, c, plus an octahedron of half a voxel h, k, l."""
    number = (10, 12, 14)
    found = shape_features(np.ones(number, np.bool_), spacing)
    a, b, c = ((count - 1) * step for count, step in zip(number, spacing, strict=True))
    h, k, l = (step / 2 for step in spacing)  # noqa: E741
    volume = a * b * c + 2 * (a * b * l + a * c * k + b * c * h) + 2 * (a * k * l + b * h * l + c * h * k) + 4 / 3 * h * k * l
    edges = 4 * (a * math.hypot(k, l) + b * math.hypot(h, l) + c * math.hypot(h, k))
    area = 2 * (a * b + a * c + b * c) + edges + 4 * math.sqrt((h * k) ** 2 + (k * l) ** 2 + (h * l) ** 2)
    assert found["MeshVolume"] == pytest.approx(volume, rel=1e-6) and found["SurfaceArea"] == pytest.approx(area, rel=1e-6)
    assert found["VoxelVolume"] == pytest.approx(math.prod(number) * math.prod(spacing))
    axes = sorted(4 * step * math.sqrt((count**2 - 1) / 12) for count, step in zip(number, spacing, strict=True))
    assert [found[name] for name in ("LeastAxisLength", "MinorAxisLength", "MajorAxisLength")] == pytest.approx(axes)


def test_spacing_of_another_order_is_seen() -> None:
    """The negative control: the same voxels with two spacings exchanged have other features, but one volume."""
    mask, (z, y, x) = ellipsoid((12, 24, 18), SPACINGS[1]), SPACINGS[1]
    right, wrong = shape_features(mask, (z, y, x)), shape_features(mask, (x, y, z))
    assert right["VoxelVolume"] == pytest.approx(wrong["VoxelVolume"])
    assert all(
        abs(right[name] / wrong[name] - 1) > 0.1 for name in ("SurfaceArea", "MajorAxisLength", "Flatness", "Maximum3DDiameter")
    )


@pytest.mark.parametrize("seed", range(6))
def test_the_diameter_is_that_of_all_pairs_of_vertices(seed: int) -> None:
    mask, spacing = noise(seed, 0.01 + 0.1 * seed), SPACINGS[seed % 3]
    mask[4, 5, 5] = True
    vertices = marching_cubes(np.pad(mask, 1).astype(np.float32), 0.5, spacing=spacing)[0]
    assert largest_diameter(mask, spacing) == pytest.approx(pdist(vertices).max(), rel=1e-5)


@pytest.mark.parametrize("part", [1, 400, 10_000])
def test_slabs_are_the_whole(part: int) -> None:
    mask, spacing = noise(0), SPACINGS[1]
    assert mesh_area_and_volume(mask, spacing, part) == pytest.approx(mesh_area_and_volume(mask, spacing), rel=1e-6)
    assert principal_variances(mask, spacing, part) == pytest.approx(principal_variances(mask, spacing))


def test_units_are_free() -> None:
    """Micrometres and metres give the same numbers, but for the power of the unit."""
    mask = ellipsoid((4, 8, 6), (1, 1, 1))
    one = shape_features(mask, (1, 1, 1))
    for unit in (1e-5, 1e3):
        other = shape_features(mask, (unit,) * 3)
        for name in SHAPE:
            power = {"MeshVolume": 3, "VoxelVolume": 3, "SurfaceArea": 2, "SurfaceVolumeRatio": -1}.get(name, 1)
            power = 0 if name in ("Sphericity", "Elongation", "Flatness") else power
            assert other[name] == pytest.approx(one[name] * unit**power, rel=1e-4)


@pytest.mark.parametrize("turn", [lambda mask: mask[::-1], lambda mask: mask[:, ::-1, ::-1]])
def test_mirroring_changes_nothing(turn) -> None:
    mask = noise(3)
    assert shape_features(turn(mask), SPACINGS[1]) == pytest.approx(shape_features(mask, SPACINGS[1]), rel=1e-5)


def test_what_is_undefined_is_none() -> None:
    nothing = shape_features(np.zeros((3, 3, 3), np.bool_), (1, 1, 1))
    assert list(nothing) == list(SHAPE) and nothing.pop("VoxelVolume") == 0 and set(nothing.values()) == {None}
    voxel = shape_features(np.ones((1, 1, 1), np.bool_), (2, 1, 1))
    assert voxel["Elongation"] is voxel["Flatness"] is None and voxel["MajorAxisLength"] == 0 and voxel["Maximum3DDiameter"] == 2
    line = shape_features(np.ones((1, 1, 9), np.bool_), (1, 1, 1))
    assert line["Elongation"] == line["Flatness"] == 0 and line["Maximum3DDiameter"] == 9
    for measure in (largest_diameter, mesh_area_and_volume):
        with pytest.raises(ValueError, match="empty mask"):
            measure(np.zeros((3, 3, 3), np.bool_), (1, 1, 1))


def test_memory_is_a_few_masks() -> None:
    mask = ellipsoid((90, 100, 100), (1, 1, 1))
    tracemalloc.start()
    shape_features(mask, (1, 1, 1))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60 * 2**20 * 4 + mask.size  # slabs; the whole mesh or all coordinates would take more with the mask
