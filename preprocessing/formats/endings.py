"""File endings that are understood, and which library reads them."""

from pathlib import Path

NIFTI = (".nii", ".nii.gz")
ITK = (".nrrd", ".nhdr", ".mha", ".mhd", ".gipl", ".gipl.gz")
TIFF = (".tif", ".tiff")
DETACHED = (".nhdr", ".mhd")  # headers whose data lie in a file of their own
ENDINGS = NIFTI + ITK + TIFF
MOST_DEFLATED = 1032  # bytes that one byte of gzip and zlib holds at most

STORE_SUFFIXES = ("_labels", "_locations")  # names of a prepared case's further files


def ending_of(path: Path) -> str | None:
    """The ending of an image file (`.nii.gz` counts as one), or None where it is not an image or a hidden file."""
    if path.name.startswith("."):
        return None
    matching = [ending for ending in ENDINGS if path.name.lower().endswith(ending)]
    return max(matching, key=len, default=None)


def stem_of(path: Path) -> str:
    """The file's name without its image ending."""
    return path.name[: len(path.name) - len(ending_of(path) or "")]


def is_file(path: Path) -> bool:
    """Whether there is such a regular file; names that no file can have (too long, say) are no error."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False
