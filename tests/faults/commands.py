"""Commands for the injection of faults. Their datasets and networks are so small that a run takes about a second."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from inference.bundle import cli as bundle_cli
from inference.evaluation import cli as evaluate_cli
from inference.prediction import cli as predict_cli
from inference.report import cli as report_cli
from inference.selection import cli as selection_cli
from planners import cli as planners_cli
from preprocessing.dicom import cli as dicom_cli
from trainers import cli as trainers_cli
from trainers.pipeline import cli as pipeline_cli

_PLANNED = ("--network", "baseline", "--configurations", "3d_fullres", "--patch-size", "8", "8", "8", "--quiet")
_TRAINED = ("--network", "baseline", "--epochs", "3", "--iterations", "2", "--device", "cpu", "--quiet")


@dataclass(frozen=True)
class Command:
    """One command line.

    Attributes:
        name: name in the table.
        main: function of the command.
        words: function that returns the command line for a folder of input and a folder of output.
        again: function that returns the command line of the second run, which completes an interrupted first run.
        prepare: function that writes the input, and the files that the output folder holds at the beginning.
        workers: whether the command has worker processes.
        produces: name of an output that a second run refuses to replace, or None.
        tells: text that the command prints when it continues without a part of the input that has disappeared, or None.
        share: share of the number of faults, below 1 for a slow command.
    """

    name: str
    main: Callable[[], int]
    words: Callable[[Path, Path], Sequence[str]]
    again: Callable[[Path, Path], Sequence[str]]
    prepare: Callable[[Path, Path], object]
    workers: bool = False
    produces: str | None = None
    tells: str | None = None
    share: float = 1.0


def _text(words: Sequence[str | Path]) -> list[str]:
    return [str(word) for word in words]


def _planning(source: Path, target: Path, *more: str) -> list[str]:
    return _text(["se_plan_and_preprocess", source / "data", "--work", target / "work", *_PLANNED, *more])


def _training(source: Path, target: Path, *more: str) -> list[str]:
    settings = ("--set", "validation_iterations=1", "learning_rate=0.02")
    return _text(["se_train", "Balls", "--work", target / "work", *_TRAINED, *settings, *more])


def _running(source: Path, target: Path) -> list[str]:
    settings = ("epochs=2", "iterations=2", "validation_iterations=1", "workers=0", "base_features=2", "batch_size=1")
    place = [source / "data", "--work", target / "work", "--preset", "quick", "--set", *settings]
    return _text(["se_run", *place, "--folds", "0", "--devices", "cpu", "--quiet"])


def _predicting(source: Path, target: Path, *more: str) -> list[str]:
    place: list[str | Path] = ["-i", source / "images", "-o", target / "segmentations", "-m", source / "model"]
    return _text(["se_predict", *place, "--device", "cpu", "--statistics", "--features", "--quiet", *more])


def _predicting_series(source: Path, target: Path, *more: str) -> list[str]:
    place: list[str | Path] = ["-i", source / "series", "-o", target / "segmentations", "-m", source / "model"]
    return _text(["se_predict", *place, "--device", "cpu", "--quiet", *more])


def _making_dataset(source: Path, target: Path) -> list[str]:
    return _text(["se_dicom", "dataset", source / "series", "-o", target / "data", "--labels", source / "labels", "--quiet"])


def _importing(source: Path, target: Path) -> list[str]:
    return _text(["se_bundle", "import", source / "toy.zip", "-o", target / "model", "--quiet"])


def _importing_nnunet(source: Path, target: Path) -> list[str]:
    return _text(["se_bundle", "import", source / "nnunet", "-o", target / "model", "--quiet"])


def _exporting(source: Path, target: Path) -> list[str]:
    return _text(["se_bundle", "export", source / "model", "-o", target / "toy.zip", "--quiet"])


def _evaluating(source: Path, target: Path) -> list[str]:
    return _text(["se_evaluate", source / "predictions", source / "references", "-o", target / "metrics.json", "--quiet"])


def _calibrating(source: Path, target: Path) -> list[str]:
    model = target / "work" / "toy" / "models" / "3d_fullres_baseline"
    return _text(["se_evaluate", "-m", model, "--calibrate", "--device", "cpu", "--quiet"])


def _selecting(source: Path, target: Path) -> list[str]:
    """The command also predicts with pairs of models."""
    return _text(["se_select", target / "work", "--ensembles", "2", "--device", "cpu", "--quiet"])


def _reporting(source: Path, target: Path) -> list[str]:
    return _text(["se_report", target / "work", "--worst", "1", "--device", "cpu", "--quiet"])


def _to_onnx(source: Path, target: Path) -> list[str]:
    return _text(["se_bundle", "onnx", source / "model", "-o", target / "toy.onnx", "--quiet"])


def _dataset(source: Path, target: Path) -> None:
    from tests.preprocessing.datasets import make_dataset

    make_dataset(source / "data", cases=4)
    (target / "work").mkdir()


def _planned_dataset(source: Path, target: Path) -> None:
    from planners import plan_and_preprocess
    from planners.options import PlanningOptions

    _dataset(source, target)
    options = PlanningOptions(networks=("baseline",), configurations=("3d_fullres",), patch_size=(8, 8, 8))
    plan_and_preprocess(source / "data", target / "work", options, jobs=1, plan_only=True)


def _preprocessed_dataset(source: Path, target: Path) -> None:
    """Write a dataset that lacks nothing but trainings; the planner's own stages are injected with faults above."""
    from planners import plan_and_preprocess
    from planners.options import PlanningOptions

    _dataset(source, target)
    options = PlanningOptions(networks=("baseline",), configurations=("3d_fullres",), patch_size=(8, 8, 8))
    plan_and_preprocess(source / "data", target / "work", options, jobs=1)


def _prepared_dataset(source: Path, target: Path) -> None:
    """Raw and prepared cases lie on the disk of the input; links in the output lead there."""
    from tests.trainers.balls import write_work

    write_work(target / "work")
    for folder in (target / "work" / "Balls" / "preprocessed", target / "raw"):
        _move_to_input(folder, source)


def _images_and_model(source: Path, target: Path) -> None:
    import numpy as np

    from tests.inference.models import write_model
    from tests.preprocessing.datasets import save

    write_model(source / "model")
    for case in "abc":
        values = np.random.default_rng(ord(case)).random((18, 21, 13), np.float32)
        save(source / "images" / f"{case}_0000.nii.gz", values)


def _series_and_labels(source: Path, target: Path) -> None:
    """Two series with label files, and a model."""
    import numpy as np

    from preprocessing.dicom.series import case_name
    from tests.inference.models import write_model
    from tests.preprocessing.datasets import save as save_nifti
    from tests.preprocessing.dicom.making import affine_of, save, slices, volume

    write_model(source / "model", ("0",))
    for name in ("1.2.3", "1.2.4"):
        values = volume((8, 10, 9), seed=int(name[-1]))
        affine = affine_of((1.0, 1.0, 1.5), np.eye(3), (1.0, 2.0, 3.0))
        save(slices(values, affine, name), source / "series" / name)
        save_nifti(source / "labels" / f"{case_name(name)}.nii.gz", (values % 2).T.astype(np.uint8), affine)


def _bundle(source: Path, target: Path) -> None:
    from inference.bundle.export import export_bundle
    from tests.inference.models import write_model

    write_model(source / "model")
    export_bundle(source / "model", source / "toy.zip")


def _results_of_nnunet(source: Path, target: Path) -> None:
    from tests.inference.bundle.nnunet.results import write_results

    write_results(source / "nnunet", ("3d_lowres", "3d_cascade_fullres"), folds=(0, 1))


def _segmentations(source: Path, target: Path) -> None:
    import numpy as np

    from tests.preprocessing.datasets import LABELS, labels, save, write_json

    for case in range(3):
        save(source / "references" / f"case_{case}.nii.gz", labels())
        save(source / "predictions" / f"case_{case}.nii.gz", np.roll(labels(), case, 0))
    write_json(source / "predictions", labels=LABELS)


def _validated_models(source: Path, target: Path) -> None:
    """Write two validated models. The raw images lie on the disk of the input."""
    from tests.inference.selection.work import add_model, make_work, right, with_specks

    work = make_work(target)
    add_model(work, "one", right)
    add_model(work, "two", with_specks, seed=1)
    _move_to_input(target / "raw", source)


def _trained_models(source: Path, target: Path) -> None:
    """Write a trained model with every file that a report reads. The raw images lie on the disk of the input."""
    from tests.inference.report.models import write_trained

    write_trained(target)
    _move_to_input(target / "toy", source)


def _move_to_input(folder: Path, source: Path) -> None:
    """Move a folder from the output to the input, and leave a link in its place."""
    shutil.move(folder, source / folder.name)
    folder.symlink_to(source / folder.name)


COMMANDS = (
    Command(
        "plan",
        planners_cli.main,
        lambda source, target: _planning(source, target, "--jobs", "1", "--plan-only"),
        lambda source, target: _planning(source, target, "--jobs", "1", "--plan-only"),
        _dataset,
    ),
    Command(
        "preprocess",
        planners_cli.main,
        lambda source, target: _planning(source, target, "--jobs", "1"),
        lambda source, target: _planning(source, target, "--jobs", "1"),
        _planned_dataset,
    ),
    Command(
        "preprocess, 2 processes",
        planners_cli.main,
        lambda source, target: _planning(source, target, "--jobs", "2"),
        lambda source, target: _planning(source, target, "--jobs", "1"),
        _planned_dataset,
        workers=True,
    ),
    Command(
        "train",
        trainers_cli.main,
        lambda source, target: _training(source, target, "--workers", "0"),
        lambda source, target: _training(source, target, "--workers", "0", "--resume"),
        _prepared_dataset,
    ),
    Command(
        "train, 1 loader",
        trainers_cli.main,
        lambda source, target: _training(source, target, "--workers", "1"),
        lambda source, target: _training(source, target, "--workers", "1", "--resume"),
        _prepared_dataset,
        workers=True,
    ),
    Command("run", pipeline_cli.main, _running, _running, _preprocessed_dataset, tells="left out of the", share=0.5),
    Command(
        "predict",
        predict_cli.main,
        _predicting,
        lambda source, target: _predicting(source, target, "--continue"),
        _images_and_model,
    ),
    Command(
        "predict, DICOM",
        predict_cli.main,
        _predicting_series,
        lambda source, target: _predicting_series(source, target, "--continue"),
        _series_and_labels,
        share=0.4,
    ),
    Command("dicom dataset", dicom_cli.main, _making_dataset, _making_dataset, _series_and_labels, produces="data", share=0.4),
    Command("bundle import", bundle_cli.main, _importing, _importing, _bundle, produces="model"),
    Command(
        "bundle import, nnU-Net",
        bundle_cli.main,
        _importing_nnunet,
        _importing_nnunet,
        _results_of_nnunet,
        produces="model",
    ),
    Command("bundle export", bundle_cli.main, _exporting, _exporting, _bundle),
    Command("evaluate", evaluate_cli.main, _evaluating, _evaluating, _segmentations),
    Command("calibrate", evaluate_cli.main, _calibrating, _calibrating, _trained_models, share=0.4),
    Command("select", selection_cli.main, _selecting, _selecting, _validated_models),
    Command("report", report_cli.main, _reporting, _reporting, _trained_models, tells="left out of the report"),
    Command("bundle onnx", bundle_cli.main, _to_onnx, _to_onnx, _bundle, share=0.4),
)


def import_everything() -> None:
    """Import the modules that commands import when they start to work, so that forked processes need not import them."""
    import importlib

    names = (
        "joblib matplotlib.figure matplotlib.backends.backend_agg matplotlib.backends.backend_svg "
        "nibabel numpy pandas psutil rich.console rich.table "
        "SimpleITK torch torch._dynamo blosc2 batchgenerators zipfile "
        "inference.bundle.export inference.bundle.install inference.bundle.nnunet.install inference.evaluation.equivariance "
        "inference.prediction.command inference.prediction.job inference.evaluation.cli inference.prediction.cli "
        "inference.evaluation.evaluate inference.evaluation.label_files inference.prediction.predict_files inference.prediction.estimate "
        "inference.evaluation.robustness inference.evaluation.tables inference.outputs.statistics inference.outputs.features.table "
        "planners.run planners.options preprocessing.formats.nifti preprocessing.resample "
        "inference.selection.run inference.report.run inference.bundle.onnx onnx onnxscript onnxruntime torch.onnx "
        "trainers.pipeline.run trainers.run trainers.job trainers.optimisation.checkpoint se_unet.cpu.allocator "
        "tests.inference.models tests.inference.bundle.nnunet.results tests.inference.report.models tests.inference.selection.work "
        "inference.outputs.dicom.segmentation inference.outputs.viewer.page "
        "pydicom.pixels highdicom preprocessing.dicom.dataset tests.preprocessing.datasets tests.preprocessing.dicom.making "
        "tests.trainers.balls"
    )
    for name in names.split():
        importlib.import_module(name)
    import torch

    from inference.evaluation import equivariance

    torch.set_num_threads(1)
    equivariance.SIZE, equivariance.FACTORS = 32, (0.8, 1.25)  # small, as all sizes here
