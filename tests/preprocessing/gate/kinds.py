"""The kinds of contradictory or unusual input, each made as files and in memory, with what each path that reads images must do.

The page docs/reference/contradictions.md is written from this table (`python -m benchmarks.pages.docs_tables`).
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import SimpleITK
import tifffile
from numpy.typing import NDArray

from tests.preprocessing.datasets import affine, rotation

SHAPE = (5, 6, 7)  # (x, y, z)
PATHS = ("planning", "prediction", "nibabel", "SimpleITK", "array", "evaluation")
NIFTI = ("planning", "prediction", "nibabel", "SimpleITK", "evaluation")
CHANNELS = ("planning", "prediction", "nibabel", "SimpleITK")
ITK = ("planning", "prediction", "SimpleITK", "evaluation")
TIFF = ("planning", "prediction", "evaluation")


def values(seed: int = 0) -> NDArray[np.float32]:
    """Intensities (x, y, z) far from the thresholds 1 and 2 of the model."""
    return np.random.default_rng(seed).choice(np.array([0.4, 1.5, 2.6], np.float32), SHAPE)


def labels_of(intensities: NDArray) -> NDArray[np.uint8]:
    """What the model makes of them."""
    return np.select([intensities > 2, intensities > 1], [7, 3], 0).astype(np.uint8)


@dataclass(frozen=True)
class Made:
    """One case of a kind."""

    images: tuple[Path, ...] = ()  # one file per channel
    labels: Path | None = None  # label file with the same header, which is evaluated
    reference: Path | None = None  # its reference; None takes a copy
    array: Any = None  # image as an array (Z, Y, X)
    spacing: tuple[float, ...] = (1.0, 1.0, 1.0)  # of the array, (Z, Y, X)


@dataclass(frozen=True)
class Kind:
    """A kind of input, and what happens."""

    name: str
    make: Callable[[Path], Made]
    fault: str | None = None  # part of the message, equal on all paths; None where the input is accepted
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)  # (Z, Y, X) in mm that every path that accepts it must see
    result: str = ""  # for the page, where the input is accepted
    accepted: Mapping[str, str] = field(default_factory=dict)  # paths that accept it although others refuse it, with the reason
    warns: str | None = None  # part of a warning
    paths: tuple[str, ...] = NIFTI  # paths that can have it

    def outcome(self, *paths: str) -> str:
        """What these paths do, in words for the page; empty where none of them can have this kind."""
        possible = [path for path in paths if path in self.paths]
        excepted = [path for path in possible if path in self.accepted]
        usual = "refused" if self.fault else "accepted"
        words = [usual] if len(excepted) < len(possible) else []
        shown = {"planning": "accepted", "evaluation": "accepted"}
        return "; ".join([*words, *(f"{shown.get(path, path)}: {self.accepted[path]}" for path in excepted)])


def stored(path: Path, array: NDArray, **fields: Any) -> Path:
    """A NIfTI file of 1 mm whose header fields are set to anything."""
    image = nib.Nifti1Image(array, np.eye(4))
    image.header.set_xyzt_units("mm")
    content = image.to_bytes()
    header = nib.Nifti1Header(content[:348], check=False)
    for name, value in fields.items():
        header[name] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(header.binaryblock + content[348:])
    return path


def forms(sform: NDArray | None = None, qform: NDArray | None = None, codes: tuple[int, int] = (0, 0)) -> dict[str, Any]:
    """Fields of both forms, with the codes of sform and qform."""
    header = nib.Nifti1Header()
    if qform is not None:
        header.set_qform(qform, 1)
    rows = np.eye(4) if sform is None else sform
    names = ("pixdim", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z")
    own = {} if qform is None else {name: header[name].copy() for name in names}
    return own | {
        "sform_code": codes[0],
        "qform_code": codes[1],
        "srow_x": rows[0],
        "srow_y": rows[1],
        "srow_z": rows[2],
    }


def pixdim(*sizes: float) -> dict[str, Any]:
    """The spacing (x, y, z) of a header without forms."""
    return {"pixdim": [1, *sizes, 1, 1, 1, 1], "sform_code": 0, "qform_code": 0}


def nifti(**fields: Any) -> Callable[[Path], Made]:
    """Image and labels as NIfTI files with these header fields."""

    def make(folder: Path) -> Made:
        image = stored(folder / "case_0000.nii", values(), **fields)
        return Made((image,), stored(folder / "labels/case.nii", labels_of(values()), **fields))

    return make


def of_type(kind: Any) -> Callable[[Path], Made]:
    """An image whose voxels have this type, as a file and as an array."""

    def make(folder: Path) -> Made:
        array = np.zeros(SHAPE, kind) if np.dtype(kind).fields else values().astype(kind)
        return Made((stored(folder / "case_0000.nii", array),), array=array.T)

    return make


def scaled(folder: Path) -> Made:
    """Labels that the header scales to fractions."""
    image = stored(folder / "case_0000.nii", values())
    return Made((image,), stored(folder / "labels/case.nii", labels_of(values()), scl_slope=0.5, scl_inter=0))


def elsewhere(folder: Path) -> Made:
    """Labels that lie 40 mm from their image."""
    image = stored(folder / "case_0000.nii", values())
    reference = stored(folder / "references/case.nii", labels_of(values()))
    shift = turned([[1, 0, 0], [0, 1, 0], [0, 0, 1]], (40, 0, 0))
    moved = stored(folder / "labels/case.nii", labels_of(values()), **forms(shift, shift, (1, 1)))
    return Made((image,), moved, reference)


def channels(second: Callable[[NDArray], NDArray], grid: NDArray) -> Callable[[Path], Made]:
    """A constant first channel of 1 mm, and a second one, stored otherwise, that the model sees."""

    def make(folder: Path) -> Made:
        first = stored(folder / "case_0000.nii", np.ones(SHAPE, np.float32))
        array = np.ascontiguousarray(second(values()))
        return Made((first, stored(folder / "case_0001.nii", array, **forms(grid, None, (1, 0)), **_zooms(grid))))

    return make


def _zooms(grid: NDArray) -> dict[str, Any]:
    return {"pixdim": [1, *np.sqrt((grid[:3, :3] ** 2).sum(0)), 1, 1, 1, 1]}


def turned(rows: list[list[int]], origin: tuple[int, int, int]) -> NDArray[np.float64]:
    """An affine of whole numbers."""
    grid = np.eye(4)
    grid[:3, :3], grid[:3, 3] = rows, origin
    return grid


def tiff(spacing: tuple[float, ...] = (1, 1, 1), **how: Any) -> Callable[[Path], Made]:
    """A TIFF stack (Z, Y, X) or what its axes say, with its labels, and the same as an array."""

    def make(folder: Path) -> Made:
        made: NDArray = values().T if "photometric" not in how else np.repeat(values().T[0][..., None], 3, -1)
        (folder / "labels").mkdir()
        tifffile.imwrite(folder / "case_0000.tif", made.astype(np.uint8) if "photometric" in how else made, **how)
        tifffile.imwrite(folder / "labels/case.tif", labels_of(made), **how)
        for beside in (folder / "case.json", folder / "labels/case.json"):
            beside.write_text(json.dumps({"spacing": spacing}))
        return Made((folder / "case_0000.tif",), folder / "labels/case.tif")

    return make


def text_header(ending: str, old: str, new: str) -> Callable[[Path], Made]:
    """A NRRD or MetaImage file of 1 mm in whose text header a line is replaced."""

    def make(folder: Path) -> Made:
        paths = folder / f"case_0000{ending}", folder / f"labels/case{ending}"
        paths[1].parent.mkdir()
        arrays: tuple[NDArray, NDArray] = values(), labels_of(values())
        for path, array in zip(paths, arrays, strict=True):
            SimpleITK.WriteImage(SimpleITK.GetImageFromArray(np.ascontiguousarray(array.T)), str(path))
            content = path.read_bytes()
            if old.encode() not in content:
                raise ValueError(f"{path} has no line {old}")
            path.write_bytes(content.replace(old.encode(), new.encode(), 1))
        return Made((paths[0],), paths[1])

    return make


def array_of(*spacing: float) -> Callable[[Path], Made]:
    """An array in memory with this spacing (Z, Y, X)."""
    return lambda folder: Made(array=values().T, spacing=spacing)


def both(file: Callable[[Path], Made], *spacing: float) -> Callable[[Path], Made]:
    """The same in a file and as an array."""

    def make(folder: Path) -> Made:
        found = file(folder)
        return Made(found.images, found.labels, array=values().T, spacing=spacing)

    return make


TILTED = affine((1, 1, 1), (0.2, 0, 0))
ONE = np.eye(4)
MIRRORED = np.diag([-1.0, 1, 1, 1])
NANOMETRES = np.diag([1e-7, 1e-7, 1e-7, 1])
UNUSABLE = "its geometry is unusable: "
MENDED = "ITK has replaced it by 1 mm"
KINDS = (
    Kind(
        "NIfTI: sform and pixdim state two spacings",
        nifti(**forms(ONE, np.diag([1.3, 1.3, 10, 1]), (1, 1))),
        "its sform states the spacing 1 x 1 x 1 and its pixdim 1.3 x 1.3 x 10 (x, y, z)",
    ),
    Kind(
        "the same, with an sform alone",
        nifti(**forms(np.diag([1.0, 1, 2, 1]), None, (2, 0))),
        "its sform states the spacing 1 x 1 x 2 and its pixdim 1 x 1 x 1 (x, y, z)",
    ),
    Kind(
        "NIfTI: sform and qform state two directions in one space (equal codes)",
        nifti(**forms(ONE, TILTED, (1, 1))),
        "its sform has the directions 1 x 0 x 0; 0 x 1 x 0; 0 x 0 x 1 and its qform 1 x 0 x 0; 0 x 0.98",
    ),
    Kind(
        "NIfTI: sform and qform name other axes of the body, such as left for right (any codes)",
        nifti(**forms(ONE, MIRRORED, (2, 1))),
        "its sform has the directions 1 x 0 x 0; 0 x 1 x 0; 0 x 0 x 1 and its qform -1 x 0 x 0",
    ),
    Kind(
        "NIfTI: sform and qform of two spaces (other codes) differ by a small rotation or a shift",
        nifti(**forms(ONE, TILTED, (4, 1))),
        result="the sform is used, with a warning",
        warns="the sform is used",
    ),
    Kind(
        "NIfTI: sform and qform of one space have two origins",
        nifti(**forms(ONE, turned([[1, 0, 0], [0, 1, 0], [0, 0, 1]], (40, 0, 0)), (1, 1))),
        result="the sform is used, with a warning",
        warns="the sform is used",
    ),
    Kind(
        "NIfTI: a form whose code is 0 says something else",
        nifti(**forms(np.diag([3.0, 3, 3, 1]), ONE, (0, 1))),
        result="the form without a code is not read",
    ),
    Kind(
        "NIfTI: the quaternion is not a rotation",
        nifti(**forms(ONE, ONE, (1, 1)) | {"quatern_b": 2.0}),
        "its qform states the quaternion 2 x 0 x 0, which is not a rotation",
    ),
    Kind(
        "NIfTI: micrometres",
        nifti(**forms(np.diag([50.0, 50, 100, 1]), np.diag([50.0, 50, 100, 1]), (1, 1)), xyzt_units=3),
        spacing=(0.1, 0.05, 0.05),
        result="converted to mm; the segmentation keeps the unit of its image",
    ),
    Kind(
        "NIfTI: metres",
        nifti(**forms(np.diag([0.002, 0.002, 0.003, 1]), np.diag([0.002, 0.002, 0.003, 1]), (1, 1)), xyzt_units=1),
        spacing=(3.0, 2.0, 2.0),
        result="converted to mm; the segmentation keeps the unit of its image",
    ),
    Kind("NIfTI: no unit", nifti(xyzt_units=0), result="taken as mm"),
    Kind(
        "NIfTI: a unit that the format does not know",
        nifti(xyzt_units=5),
        "its xyzt_units states the unknown unit 5 of length",
    ),
    Kind(
        "NIfTI: pixdim 0",
        nifti(**pixdim(1, 1, 0)),
        UNUSABLE + "pixdim states the spacing 1 x 1 x 0 (x, y, z)",
        accepted={"SimpleITK": MENDED},
    ),
    Kind(
        "NIfTI: pixdim 0 beside an sform",
        nifti(pixdim=[1, 1, 1, 0, 1, 1, 1, 1]),
        UNUSABLE + "pixdim states the spacing 1 x 1 x 0 (x, y, z)",
        accepted={"SimpleITK": MENDED},
    ),
    Kind(
        "NIfTI: negative pixdim",
        nifti(**pixdim(1, -1, 1)),
        UNUSABLE + "pixdim states the spacing 1 x -1 x 1 (x, y, z)",
    ),
    Kind(
        "NIfTI: pixdim NaN",
        nifti(**pixdim(1, 1, np.nan)),
        UNUSABLE + "pixdim states the spacing 1 x 1 x nan (x, y, z)",
        accepted={"SimpleITK": MENDED},
    ),
    Kind(
        "NIfTI: voxels smaller than a nanometre",
        nifti(**forms(NANOMETRES, NANOMETRES, (1, 1))),
        UNUSABLE + "spacing must be three positive lengths in mm, from 1e-06 to 10000, not (1.",
    ),
    Kind(
        "NIfTI: voxels larger than 10 m",
        nifti(**forms(np.diag([1.0, 1, 1e6, 1]), np.diag([1.0, 1, 1e6, 1]), (1, 1))),
        UNUSABLE + "spacing must be three positive lengths in mm, from 1e-06 to 10000, not (1000000.0, 1.0, 1.0)",
    ),
    Kind(
        "array: negative spacing",
        array_of(1, -1, 1),
        UNUSABLE + "spacing must be three positive lengths in mm, from 1e-06 to 10000, not (1.0, -1.0, 1.0)",
        paths=("array",),
    ),
    Kind(
        "array: spacing NaN",
        array_of(np.nan, 1, 1),
        UNUSABLE + "spacing must be three positive lengths in mm, from 1e-06 to 10000, not (nan, 1.0, 1.0)",
        paths=("array",),
    ),
    Kind(
        "TIFF and array: spacing 0",
        both(tiff((1, 0, 1)), 1, 0, 1),
        UNUSABLE + "spacing must be three positive lengths in mm, from 1e-06 to 10000, not (1.0, 0.0, 1.0)",
        paths=(*TIFF, "array"),
    ),
    Kind(
        "TIFF and array: voxels larger than 10 m",
        both(tiff((1, 1, 1e9)), 1, 1, 1e9),
        UNUSABLE + "spacing must be three positive lengths in mm, from 1e-06 to 10000, not (1.0, 1.0, 1000000000.0)",
        paths=(*TIFF, "array"),
    ),
    Kind(
        "TIFF: colours (axes S), where one channel is named",
        tiff(photometric="rgb"),
        "the image has 3 channels, but `dataset.json` names 1 (MR)",
        paths=("planning", "prediction"),
    ),
    Kind(
        "TIFF: colours (axes S) as labels",
        tiff(photometric="rgb"),
        "a label file must hold one volume, not 3",
        paths=("evaluation",),
    ),
    Kind("TIFF: channels (axes C)", tiff(imagej=True, metadata={"axes": "CYX"}), "channels (C) instead of a volume", paths=TIFF),
    Kind("TIFF: times (axes T)", tiff(imagej=True, metadata={"axes": "TYX"}), "times (T) instead of a volume", paths=TIFF),
    Kind("TIFF: slices (axes Z)", tiff(imagej=True, metadata={"axes": "ZYX"}), result="read", paths=TIFF),
    Kind(
        "NRRD: micrometres",
        text_header(".nrrd", "kinds:", 'space units: "um" "um" "um"\nkinds:'),
        "its header states lengths in um, which readers of this format take as mm",
        accepted={"SimpleITK": "ITK does not read the unit: taken as mm"},
        paths=ITK,
    ),
    Kind(
        "MetaImage: micrometres",
        text_header(".mha", "ElementSpacing", "DistanceUnits = um\nElementSpacing"),
        "its header states lengths in um, which readers of this format take as mm",
        paths=ITK,
    ),
    Kind(
        "MetaImage: negative spacing",
        text_header(".mha", "ElementSpacing = 1 1 1", "ElementSpacing = 1 -1 1"),
        UNUSABLE + "its header states the spacing 1 x -1 x 1 (x, y, z)",
        accepted={"SimpleITK": "ITK has reversed the axis"},
        paths=ITK,
    ),
    Kind("complex values", of_type(np.complex64), "values of type complex64 are not intensities", paths=(*CHANNELS, "array")),
    Kind(
        "colours as voxels",
        of_type([("R", "u1"), ("G", "u1"), ("B", "u1")]),
        "are not intensities",
        paths=("planning", "prediction", "nibabel"),
    ),
    Kind(
        "labels that scl_slope scales to fractions",
        scaled,
        "but the header scales them: its scl_slope is 0.5 and its scl_inter 0",
        paths=("planning", "evaluation"),
    ),
    Kind(
        "label file on another grid than its image, or a prediction than its reference",
        elsewhere,
        "has the origin 40 x 0 x 0 mm and the image 0 x 0 x 0 mm (R, A, S)",
        paths=("planning", "evaluation"),
    ),
    Kind(
        "channels: reversed as the header tells",
        channels(lambda array: array[::-1], turned([[-1, 0, 0], [0, 1, 0], [0, 0, 1]], (4, 0, 0))),
        result="turned onto the grid of the first channel",
        paths=CHANNELS,
    ),
    Kind(
        "channels: axes exchanged as the header tells",
        channels(lambda array: array.transpose(2, 0, 1)[:, ::-1], turned([[0, -1, 0], [0, 0, 1], [1, 0, 0]], (4, 0, 0))),
        result="turned onto the grid of the first channel",
        paths=CHANNELS,
    ),
    Kind(
        "channels: shifted",
        channels(lambda array: array, turned([[1, 0, 0], [0, 1, 0], [0, 0, 1]], (40, 0, 0))),
        "this channel has the origin 40 x 0 x 0 mm and the image 0 x 0 x 0 mm (R, A, S)",
        paths=CHANNELS,
    ),
    Kind(
        "channels: reversed, not in place",
        channels(lambda array: array[::-1], MIRRORED),
        "this channel has the directions -1 x 0 x 0; 0 x 1 x 0; 0 x 0 x 1 and the image 1 x 0 x 0",
        paths=CHANNELS,
    ),
    Kind(
        "channels: another spacing",
        channels(lambda array: array, np.diag([0.5, 1, 1, 1])),
        "this channel has the spacing 1 x 1 x 0.5 mm and the image 1 x 1 x 1 mm (Z, Y, X)",
        paths=CHANNELS,
    ),
    Kind(
        "channels: another shape",
        channels(lambda array: array[1:], ONE),
        "this channel has the shape (7, 6, 4) and the image (7, 6, 5) (Z, Y, X)",
        paths=CHANNELS,
    ),
    Kind(
        "channels: tilted",
        channels(lambda array: array, np.vstack([np.c_[rotation((0.1, 0, 0)), np.zeros(3)], [0, 0, 0, 1]])),
        "this channel has the directions 1 x 0 x 0; 0 x 0.995",
        paths=CHANNELS,
    ),
    Kind(
        "700 mm a voxel, for a model of 1 mm",
        both(nifti(**forms(np.diag([700.0] * 3 + [1]), np.diag([700.0] * 3 + [1]), (1, 1))), 700, 700, 700),
        "at the planned spacing 1 x 1 x 1 mm it has 4900 x 4200 x 3500 voxels (Z, Y, X), which take",
        spacing=(700.0, 700.0, 700.0),
        accepted={"planning": "a plan follows the data", "evaluation": "nothing is resampled"},
        paths=PATHS,
    ),
)
