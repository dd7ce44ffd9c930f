"""Images to arrays and back: files, geometry, validation, cropping, normalisation, resampling, the store of prepared cases."""

from typing import TYPE_CHECKING

from configs.exports import import_on_use

if TYPE_CHECKING:
    from preprocessing.dataset.raw import open_dataset
    from preprocessing.formats.images import read_image, read_labels, write_labels
    from preprocessing.geometry.affine import Geometry

__all__ = ["Geometry", "open_dataset", "read_image", "read_labels", "write_labels"]

__getattr__ = import_on_use(
    __name__,
    {
        "Geometry": "preprocessing.geometry.affine",
        "open_dataset": "preprocessing.dataset.raw",
        "read_image": "preprocessing.formats.images",
        "read_labels": "preprocessing.formats.images",
        "write_labels": "preprocessing.formats.images",
    },
)
