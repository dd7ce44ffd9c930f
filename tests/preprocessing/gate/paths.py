"""The paths on which images are read, each as a function from a case to what it made of it."""

import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import SimpleITK
from numpy.typing import NDArray
from torch import Tensor, nn

from configs.dataset import DatasetDescription
from configs.plan import ModelPlan
from inference import PredictionOptions, Predictor
from inference.evaluation.evaluate import evaluate
from inference.model import Model
from inference.prediction.cluster import predict_on_cluster
from inference.prediction.command import ModelChoice
from inference.prediction.outputs import Extras
from inference.prediction.predict_files import predict_cases
from preprocessing.dataset.case import Case
from preprocessing.dataset.raw import scan_dataset
from preprocessing.dataset.validation import examine
from preprocessing.formats.images import read_labels
from preprocessing.formats.registry import ending_of
from tests.inference.models import Thresholds, plan
from tests.preprocessing.gate.kinds import Kind, Made, labels_of, values

FIELDS = ("pixdim", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d", "srow_x", "srow_y", "srow_z", "xyzt_units")
OPTIONS = PredictionOptions(mirror=False, scales=(1.0,))


@dataclass(frozen=True)
class Seen:
    """What a path made of an accepted case."""

    labels: NDArray  # (Z, Y, X)
    spacing: tuple[float, ...]  # (Z, Y, X) in mm


class LastChannel(nn.Module):
    """`Thresholds` of the last channel."""

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = Thresholds()(x[:, -1:])
        return scores


def describe(channels: int) -> DatasetDescription:
    """One or two channels, and the labels that the thresholds give."""
    names = ("MR", "T2")[:channels]
    return DatasetDescription(name="toy", channels=names, labels={"background": 0, "grey": 3, "bright": 7})


@dataclass(frozen=True)
class Thresholding(ModelChoice):
    """The model on images of one spacing, which are not resampled; workers of a cluster load it as they load any model."""

    channels: int = 1
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def load(self, options: PredictionOptions) -> Predictor:
        model = Model(ModelPlan(plan(describe(self.channels), self.spacing)), {"0": LastChannel()})
        return Predictor(model, "cpu", options)


def choice(made: Made, spacing: tuple[float, float, float]) -> Thresholding:
    """The model for a case."""
    return Thresholding((), channels=max(1, len(made.images)), spacing=spacing)


def predictor(made: Made, spacing: tuple[float, float, float]) -> Predictor:
    """The model for a case, loaded."""
    return choice(made, spacing).load(OPTIONS)


def follow(path: str, kind: Kind, folder: Path, scheduler: str | None = None) -> Seen:
    """Make a case, send it along a path, and return what the path saw; raise `InputError` where it refuses the case.

    With the address of a Dask scheduler, its workers read the case; this holds for `planning` and `prediction`.
    """
    made = kind.make(folder)
    model_spacing = (1.0, 1.0, 1.0) if "700" in kind.name else kind.spacing
    on_cluster = {} if scheduler is None else {"scheduler": scheduler}
    return _PATHS[path](made, model_spacing, folder, **on_cluster)


def _planning(made: Made, spacing: Any, folder: Path, scheduler: str | None = None) -> Seen:
    ending = ending_of(made.images[0]) or ""
    dataset = folder / "dataset"
    for part in ("imagesTr", "labelsTr"):
        (dataset / part).mkdir(parents=True)
    description = describe(max(1, len(made.images)))
    names, labels = dict(enumerate(description.channels)), dict(description.labels)
    (dataset / "dataset.json").write_text(json.dumps({"channel_names": names, "labels": labels, "file_ending": ending}))
    for image in made.images:
        shutil.copy(image, dataset / "imagesTr")
    if made.labels is None:
        grid = Made((made.images[0],))
        _write_labels(dataset / f"labelsTr/case{ending}", grid)
    else:
        shutil.copy(made.labels, dataset / "labelsTr")
    for part in ("imagesTr", "labelsTr"):
        (dataset / part / "case.json").write_text((folder / "case.json").read_text() if ending == ".tif" else "{}")
    warnings, found = examine(scan_dataset(dataset), _case, scheduler=scheduler)
    _warn(str(warning) for warning in warnings)
    case = found["case"]
    return Seen(labels_of(case.image[-1]), case.geometry.spacing)


def _case(case: Case) -> Case:
    return case


def _warn(messages: Any) -> None:
    for message in messages:
        logging.getLogger("planning").warning(message)


def _write_labels(path: Path, like: Made) -> None:
    """Labels on the grid of an image that has none of its own."""
    image = nib.Nifti1Image(labels_of(values()), np.eye(4))
    image.header.set_xyzt_units("mm")
    nib.save(image, path)


def _prediction(made: Made, spacing: Any, folder: Path, scheduler: str | None = None) -> Seen:
    target = folder / f"out/case{ending_of(made.images[0])}"
    cases, outputs = {"case": made.images}, {"case": target}
    if scheduler is None:
        failures = predict_cases(predictor(made, spacing), cases, outputs)
    else:
        target.parent.mkdir()
        failures = predict_on_cluster(choice(made, spacing), OPTIONS, cases, outputs, Extras(), scheduler)
    if failures:
        raise failures["case"]
    if target.suffix == ".nii":
        _require_same_header(nib.Nifti1Image.from_filename(made.images[0]).header, nib.Nifti1Image.from_filename(target).header)
    labels, geometry = read_labels(target)
    return Seen(labels, geometry.spacing)


def _require_same_header(before: Any, after: Any) -> None:
    differing = [name for name in FIELDS if before[name].tobytes() != after[name].tobytes()]
    if differing:
        raise AssertionError(f"the segmentation has another {differing}")


def _nibabel(made: Made, spacing: Any, folder: Path) -> Seen:
    images = [nib.Nifti1Image.from_filename(image) for image in made.images]
    found = predictor(made, spacing)(images)
    _require_same_header(images[0].header, found.header)
    nib.save(found, folder / "memory.nii")
    labels, geometry = read_labels(folder / "memory.nii")
    return Seen(labels, geometry.spacing)


def _simpleitk(made: Made, spacing: Any, folder: Path) -> Seen:
    images = [SimpleITK.ReadImage(str(image)) for image in made.images]
    found = predictor(made, spacing)(images)
    return Seen(SimpleITK.GetArrayFromImage(found), found.GetSpacing()[::-1])


def _array(made: Made, spacing: Any, folder: Path) -> Seen:
    return Seen(predictor(made, spacing)(made.array, spacing=made.spacing), made.spacing)


def _evaluation(made: Made, spacing: Any, folder: Path) -> Seen:
    if made.labels is None:
        raise ValueError("there is nothing to evaluate")
    references = folder / "truth"
    shutil.copytree((made.reference or made.labels).parent, references)
    evaluate(made.labels.parent, references, describe(1))
    labels, geometry = read_labels(made.labels)
    return Seen(labels, geometry.spacing)


_PATHS: dict[str, Callable[..., Seen]] = {
    "planning": _planning,
    "prediction": _prediction,
    "nibabel": _nibabel,
    "SimpleITK": _simpleitk,
    "array": _array,
    "evaluation": _evaluation,
}
