"""The surface of a mask as a triangle mesh, measured slab by slab so that memory is bounded.

The mesh is that of marching cubes (Lorensen and Cline 1987) at 0.5 on a mask with 0 around it: its vertices lie midway between voxels
inside and outside. A slab shares one slice with the next, so that each cube of eight voxels belongs to exactly one slab, and sums over
slabs are those of the whole mesh.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from skimage.measure import marching_cubes, mesh_surface_area

PART = 2**20  # voxels of a slab
_BYTES_OF_VERTEX = 256  # in marching cubes, whose arrays of vertices and triangles are copied as they grow


def mesh_area_and_volume(mask: NDArray[np.bool_], spacing: Sequence[float], part: int = PART) -> tuple[float, float]:
    """Return the area in mm^2 and the enclosed volume in mm^3 of the surface of a mask (Z, Y, X) with this spacing (Z, Y, X) in mm.

    The volume is the sum over triangles (a, b, c) of a . (b x c) / 6, which holds for every closed mesh whose triangles face one way.

    Raises:
        ValueError: the mask is empty.
        MemoryError: memory does not suffice.
    """
    if not mask.any():
        raise ValueError("an empty mask has no surface")
    area, volume = 0.0, 0.0
    for start, slab in _slabs(mask, part):
        if slab.all() or not slab.any():
            continue
        _require_memory(slab)
        vertices, faces, _, _ = marching_cubes(slab.astype(np.float32), 0.5, spacing=tuple(spacing), method="lorensen")
        a, b, c = np.moveaxis((vertices + np.array([start * spacing[0], 0, 0]))[faces], 1, 0)
        area += float(mesh_surface_area(vertices, faces))
        volume += float(np.einsum("ij,ij->", a, np.cross(b, c))) / 6
    return area, abs(volume)


def _require_memory(slab: NDArray[np.bool_]) -> None:
    """Raise `MemoryError` if memory does not suffice for the mesh: scikit-image goes on without it, and the process crashes.

    Each edge of the grid whose ends differ has one vertex.
    """
    vertices = sum(int(np.count_nonzero(np.diff(slab, axis=axis))) for axis in range(3))
    np.empty(2**20 + _BYTES_OF_VERTEX * vertices, dtype=np.uint8)


def _slabs(mask: NDArray[np.bool_], part: int) -> Iterator[tuple[int, NDArray[np.bool_]]]:
    """Slabs of the mask with 0 around it, with the index of their first slice; neighbours share one slice."""
    depth, height, width = (size + 2 for size in mask.shape)
    step = max(1, part // (height * width))
    for start in range(0, depth - 1, step):
        slab = np.zeros((min(step + 1, depth - start), height, width), dtype=np.bool_)
        first, last = max(start, 1), min(start + len(slab), depth - 1)
        slab[first - start : last - start, 1:-1, 1:-1] = mask[first - 1 : last - 1]
        yield start, slab
