"""Small datasets in nnU-Net's layout, taken from a larger one."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path


def case_names(dataset: Path) -> list[str]:
    """The names of the training cases of a NIfTI dataset, sorted."""
    return sorted(path.name.removesuffix(".nii.gz") for path in (dataset / "labelsTr").glob("*.nii.gz"))


def copy_cases(dataset: Path, names: Sequence[str], target: Path) -> Path:
    """Copy some training cases into a new dataset.

    Args:
        dataset: folder of the larger dataset.
        names: names of the cases.
        target: folder of the new dataset, whose name is the dataset's name.

    Returns:
        The target.
    """
    for folder in ("imagesTr", "labelsTr"):
        (target / folder).mkdir(parents=True)
    for name in names:
        for image in sorted((dataset / "imagesTr").glob(f"{name}_[0-9][0-9][0-9][0-9].nii.gz")):
            shutil.copyfile(image, target / "imagesTr" / image.name)
        shutil.copyfile(dataset / "labelsTr" / f"{name}.nii.gz", target / "labelsTr" / f"{name}.nii.gz")
    description = json.loads((dataset / "dataset.json").read_text(encoding="utf-8")) | {"numTraining": len(names)}
    (target / "dataset.json").write_text(json.dumps(description), encoding="utf-8")
    return target


def copy_unseen(dataset: Path, number: int, images: Path, references: Path) -> None:
    """Copy the first unseen images of a dataset with one channel, and their label files."""
    images.mkdir(parents=True)
    references.mkdir(parents=True)
    for label in sorted((dataset / "labelsTs").glob("*.nii.gz"))[:number]:
        shutil.copyfile(label, references / label.name)
        image = f"{label.name.removesuffix('.nii.gz')}_0000.nii.gz"
        shutil.copyfile(dataset / "imagesTs" / image, images / image)
    shutil.copyfile(dataset / "dataset.json", references / "dataset.json")
