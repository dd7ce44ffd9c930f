"""A user's own image format: arrays and affine in one archive of NumPy's."""

from pathlib import Path

import numpy as np

from configs.files import replacing
from preprocessing import Format


class Archive(Format):
    """`voxels` (C, Z, Y, X), their `shape`, and the `affine`."""

    endings = (".vox",)

    def read(self, path):
        with np.load(path) as archive:
            return archive["voxels"], archive["affine"]

    def read_header(self, path):
        with np.load(path) as archive:  # arrays are loaded when they are asked for
            return tuple(archive["shape"].tolist()), archive["affine"]

    def write(self, path: Path, array, geometry, like):
        affine = geometry.matrix if like is None else self.read_header(like)[1]
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, voxels=array[None], shape=(1, *array.shape), affine=affine)


class Nameless(Archive):
    endings = ()


class Unfinished(Format):
    endings = (".vox",)


class Stranger:
    endings = (".vox",)
