"""Small datasets on disk for the tests of preprocessing and planning."""

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from configs.errors import Fault
from preprocessing.dataset.raw import RawDataset
from preprocessing.dataset.validation import examine

SHAPE = (10, 12, 14)  # (x, y, z)
LABELS = {"background": 0, "inner": 1, "outer": 2}


def image(seed: int = 0, shape: tuple[int, ...] = SHAPE) -> NDArray[np.float32]:
    """Positive noise (x, y, z)."""
    return np.random.default_rng(seed).uniform(1, 100, shape).astype(np.float32)


def labels(shape: tuple[int, ...] = SHAPE) -> NDArray[np.uint8]:
    """A box of 1 within a box of 2 (x, y, z)."""
    made = np.zeros(shape, dtype=np.uint8)
    made[2:8, 2:9, 3:11] = 2
    made[4:6, 4:7, 5:9] = 1
    return made


def save(path: Path, array: NDArray, affine: NDArray | None = None) -> Path:
    """Write a NIfTI file of an array (x, y, z)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, np.eye(4) if affine is None else affine), path)
    return path


def write_json(folder: Path, **changes: Any) -> None:
    """Write `dataset.json` of one channel and two labels, changed by `changes`."""
    content = {"channel_names": {"0": "MR"}, "labels": LABELS, "numTraining": 3, "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(content | changes))


def make_dataset(folder: Path, cases: int = 3, affine: NDArray | None = None, **changes: Any) -> Path:
    """A sound dataset in nnU-Net's raw layout: case_0, case_1, ..."""
    folder.mkdir(parents=True)
    write_json(folder, **changes)
    for index in range(cases):
        save(folder / f"imagesTr/case_{index}_0000.nii.gz", image(index), affine)
        save(folder / f"labelsTr/case_{index}.nii.gz", labels(), affine)
    return folder


def validate(dataset: RawDataset) -> list[Fault]:
    """Warnings of a dataset of which nothing is measured."""
    return examine(dataset, lambda case: None)[0]


def rotation(angles: tuple[float, float, float]) -> NDArray[np.float64]:
    """Rotation about the axes x, y, z in turn, angles in radians."""
    turned = np.eye(3)
    for axis, angle in enumerate(angles):
        first, second = (other for other in range(3) if other != axis)
        step = np.eye(3)
        step[first, first] = step[second, second] = np.cos(angle)
        step[first, second], step[second, first] = -np.sin(angle), np.sin(angle)
        turned = step @ turned
    return turned


def affine(
    spacing: tuple[float, float, float], angles: tuple[float, float, float] = (0, 0, 0), flips: str = ""
) -> NDArray[np.float64]:
    """A NIfTI affine from voxel sizes (x, y, z), angles, and the names of the axes to reverse."""
    made = np.eye(4)
    made[:3, :3] = rotation(angles) * np.array(spacing)
    made[:3, 3] = (-12.5, 30.25, 7.125)
    for axis, name in enumerate("xyz"):
        if name in flips:
            made[:3, axis] *= -1
    return made
