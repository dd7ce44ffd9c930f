"""What se_predict, se_evaluate, se_select and se_bundle compute with the models of `tests.same_results.training`."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

from inference import Predictor
from tests.same_results.commands import Commands
from tests.same_results.datasets import copy_unseen
from tests.same_results.digests import (
    Json,
    archive_digest,
    array_digest,
    image_digest,
    read_table,
    read_values,
    weights_digest,
)

IMAGES = 5
PATHS = frozenset({"model", "version", "command", "left_out"})


@dataclass(frozen=True)
class Prediction:
    """One call of se_predict.

    Attributes:
        models: names of the models' folders.
        options: what is added to images, output and models.
        images: how many images are segmented.
    """

    models: tuple[str, ...]
    options: tuple[str, ...] = ()
    images: int = 1


_SE = ("3d_fullres_se",)
PREDICTIONS = {
    "default": Prediction(_SE, ("--save-probabilities", "--save-uncertainty", "--statistics"), IMAGES),
    "baseline": Prediction(("3d_fullres_baseline",), ("--folds", "0"), IMAGES),
    "no mirror": Prediction(_SE, ("--no-mirror", "--folds", "1", "--checkpoint", "best"), IMAGES),
    "scales": Prediction(_SE, ("--scales", "0.8", "1", "1.25", "--no-mirror", "--save-probabilities"), 2),
    "weights": Prediction(_SE, ("--scales", "0.8", "1", "--scale-weights", "1", "2", "--fast")),
    "search": Prediction(_SE, ("--search", "always", "--no-mirror")),
    "fast": Prediction(_SE, ("--fast", "--tile-batch", "2", "--roi", "Anterior")),
    "two models": Prediction((*_SE, "3d_fullres_baseline"), ("--average", "logits", "--no-mirror", "--save-probabilities")),
    "slices": Prediction(("2d_se",), ("--save-probabilities",)),
    "varied": Prediction(("3d_fullres_se_varied",), ("--step-size", "0.4", "--save-uncertainty")),
}


def record_predictions(commands: Commands, data: Path, work: Path) -> dict[str, Json]:
    """Segment the first unseen images in several ways, with the commands and in memory, and score them."""
    for number in (1, 2, IMAGES):
        copy_unseen(data / "Dataset004_Hippocampus", number, work / f"images_{number}", work / f"references_{number}")
    models = work / "Few" / "models"
    recorded: dict[str, Json] = {}
    for name, one in PREDICTIONS.items():
        output, folders = work / "predictions" / name.replace(" ", "_"), [models / model for model in one.models]
        recorded[name] = _predict(commands, work / f"images_{one.images}", output, folders, one.options)
    recorded["in memory"] = _predict_in_memory(models / "3d_fullres_se", work / "images_1")
    recorded["evaluation"] = _evaluate(commands, work / "predictions", work / f"references_{IMAGES}")
    return recorded


def record_other_predictions(commands: Commands, data: Path, scales: Path, cascade: Path) -> dict[str, Json]:
    """Segment images with the model of three scales and with the cascade."""
    images = scales / "images"
    copy_unseen(data / "Dataset004_Hippocampus", 2, images, scales / "references")
    several = [scales / "Few" / "models" / "3d_fullres_se"]
    second = [cascade / "Two" / "models" / "3d_cascade_fullres_se"]
    options = ("--no-mirror", "--save-probabilities")
    return {
        "three scales": _predict(commands, images, scales / "predictions", several, options),
        "cascade": _predict(commands, cascade / "raw" / "Two" / "imagesTr", cascade / "predictions", second, options),
    }


def record_choices(commands: Commands, work: Path) -> dict[str, Json]:
    """Choose among models, measure one at several sizes, calibrate it, and share it."""
    planned, few = work / "Few", ("--cases", "1", "--folds", "0", "--no-mirror")
    commands.run("se_select", planned, "--folds", "0", "--ensembles", "--checkpoints")
    followed = work / "predictions" / "selection"
    line = ("se_predict", "-i", work / "images_2", "-o", followed, "--selection", planned / "selection.json", "--fast")
    commands.run(*line)
    shared = _share(commands, planned / "models" / "3d_fullres_se", work)
    model = planned / "models" / "3d_fullres_baseline"
    commands.run("se_evaluate", "-m", model, "--scales", "0.8", "1.25", "--ensemble", "0.8", "1", "1.25", "--search", *few)
    robustness = {"file": read_values(model / "scale_robustness.json"), "table": read_table(model / "scale_robustness.csv")}
    commands.run("se_evaluate", "-m", model, "--calibrate", *few)
    learned = _predict(commands, work / "images_1", work / "predictions" / "learned", [model], ("--no-mirror",))
    selection = read_values(planned / "selection.json", PATHS)
    return {"selection": selection, "followed": _segmentations(followed), "robustness": robustness, "learned": learned} | shared


def _share(commands: Commands, model: Path, work: Path) -> dict[str, Json]:
    bundle, unpacked = work / "shared.zip", work / "unpacked"
    commands.run("se_bundle", "export", model, "-o", bundle)
    commands.run("se_bundle", "import", bundle, "-o", unpacked)
    weights = {str(path.relative_to(unpacked)): weights_digest(path) for path in sorted(unpacked.rglob("*.safetensors"))}
    return {"shared": {"plan": read_values(unpacked / "plan.json"), "weights": weights}}


def _predict(commands: Commands, images: Path, output: Path, models: list[Path], options: tuple[str, ...]) -> dict[str, Json]:
    commands.run("se_predict", "-i", images, "-o", output, "-m", *models, *options)
    return _segmentations(output)


def _segmentations(folder: Path) -> dict[str, Json]:
    """Everything that se_predict wrote, but for its logs and the record of paths."""
    recorded: dict[str, Json] = {path.name: image_digest(path) for path in sorted(folder.glob("*.nii.gz"))}
    recorded |= {path.name: archive_digest(path) for path in sorted(folder.glob("*.npz"))}
    return recorded | {path.name: read_table(path) for path in sorted(folder.glob("*.csv"))}


def _predict_in_memory(model: Path, images: Path) -> dict[str, str]:
    """The same through Python: an array in, an array out, and a NIfTI image in, one out."""
    predictor = Predictor.load(model)
    path = min(images.iterdir())
    image = nib.load(path)
    from_array = predictor(np.asarray(image.dataobj, np.float32).transpose(2, 1, 0), spacing=(1.0, 1.0, 1.0))
    from_image = predictor(image)
    return {"array": array_digest(np.asarray(from_array)), "image": array_digest(np.asarray(from_image.dataobj))}


def _evaluate(commands: Commands, predictions: Path, references: Path) -> dict[str, Json]:
    surface, plain = predictions / "default", predictions / "baseline"
    scored = predictions.parent / "scored"
    for folder, options in ((surface, ("--surface", "--tolerance", "2")), (plain, ("--jobs", "1"))):
        target = scored / folder.name
        target.mkdir(parents=True)
        for path in references.glob("*.nii.gz"):
            shutil.copyfile(folder / path.name, target / path.name)
        commands.run("se_evaluate", target, references, *options)
    return {
        folder.name: {"file": read_values(folder / "metrics.json"), "table": read_table(folder / "metrics.csv")}
        for folder in sorted(scored.iterdir())
    }
