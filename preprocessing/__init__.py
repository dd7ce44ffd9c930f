"""Preprocessing: image files, geometry, validation, normalisation, resampling, and the store of preprocessed cases."""

from typing import TYPE_CHECKING

from configs.named_parts import import_on_use

if TYPE_CHECKING:
    from preprocessing.dataset.raw import open_dataset
    from preprocessing.formats.format import Format
    from preprocessing.formats.images import read_image, read_labels, write_labels
    from preprocessing.formats.registry import use_format
    from preprocessing.geometry.affine import Geometry

__all__ = ["Format", "Geometry", "open_dataset", "read_image", "read_labels", "use_format", "write_labels"]

__getattr__ = import_on_use(
    __name__,
    {
        "Format": "preprocessing.formats.format",
        "Geometry": "preprocessing.geometry.affine",
        "open_dataset": "preprocessing.dataset.raw",
        "read_image": "preprocessing.formats.images",
        "read_labels": "preprocessing.formats.images",
        "use_format": "preprocessing.formats.registry",
        "write_labels": "preprocessing.formats.images",
    },
)
