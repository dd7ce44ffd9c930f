"""Import models of every kind that nnU-Net makes, and compare the predictions with nnU-Net's own.

    python -m benchmarks.nnunet.import_parity --peer PEER/bin/python --data ../shared/data [--kinds NAME ...] [--csv FILE]

nnU-Net plans each dataset and saves its initial weights, or those after some steps, as a model (`benchmarks.nnunet.peer_models`);
`se_bundle import` takes it; both segment the same images, with and without mirroring. nnU-Net adds up in float32 instead of half floats,
whose rounding its own figures carry. The datasets are real ones and images made here in several spacings, so that all are resampled.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from scipy import ndimage

from benchmarks.common.options import add_peer
from benchmarks.common.tables import show_table
from benchmarks.common.trainings import link
from benchmarks.nnunet.nnunet_peer import run_quietly, threads_environment
from configs.files import write_json
from inference.bundle.nnunet.install import import_nnunet
from inference.prediction.cli import main as se_predict

COLUMNS = {"kind": "{}", "configuration": "{}", "mirror": "{}", "cases": "{}", "max_difference": "{:.1e}"}
COLUMNS |= {"labels_agree": "{:.6f}", "worst_case": "{:.6f}", "classes_seen": "{}"}
AGREE, CLOSE = 0.9999, 1e-3


@dataclass(frozen=True)
class Kind:
    """One kind of model.

    Attributes:
        dataset: a folder of the data, or one of `MADE`.
        configurations: those to train; a cascade's first stage comes first.
        cases: number of images.
        archive: whether to import the ZIP file of nnU-Net's export.
        options: further entries of a job of `peer_models`.
    """

    dataset: str
    configurations: tuple[str, ...] = ("3d_fullres",)
    cases: int = 2
    archive: bool = False
    options: dict[str, Any] = field(default_factory=dict)


def residual(size: str, suffix: str = "") -> dict[str, str]:
    """Return planner and plans of a residual encoder."""
    return {"planner": f"nnUNetPlannerResEnc{size}{suffix}", "plans": f"nnUNetResEncUNet{size}Plans{suffix}"}


ISO, THICK, SIDEWAYS, CHANNELS, REGIONS, IGNORE = (
    f"Dataset90{number}_{name}" for number, name in enumerate(("Iso", "Thick", "Sideways", "Channels", "Regions", "Ignore"), 1)
)
KINDS = {
    "hippocampus": Kind("Dataset004_Hippocampus", cases=20, options={"shrink": False}),
    "CT, 42 classes": Kind("Dataset291_TotalSegExampleCT", cases=1, options={"shrink": False}),
    "CT, 42 classes, 60 steps": Kind("Dataset291_TotalSegExampleCT", cases=1, options={"shrink": False, "steps": 60}),
    "2d": Kind(ISO, ("2d",)),
    "2d, thick slices": Kind(THICK, ("2d",)),
    "cascade": Kind(ISO, ("3d_lowres", "3d_cascade_fullres")),
    "cascade, ZIP, two folds": Kind(THICK, ("3d_lowres", "3d_cascade_fullres"), archive=True, options={"folds": [0, 1]}),
    "ResEnc M": Kind(ISO, options=residual("M")),
    "ResEnc L": Kind(ISO, options=residual("L")),
    "ResEnc XL": Kind(ISO, options=residual("XL")),
    "ResEnc M, 2d": Kind(ISO, ("2d",), options=residual("M")),
    "three folds, ZIP": Kind(ISO, archive=True, options={"folds": [0, 1, 4]}),
    "fold all": Kind(ISO, options={"folds": ["all"]}),
    "thick slices": Kind(THICK),
    "axes exchanged": Kind(SIDEWAYS),
    "five normalisations": Kind(CHANNELS),
    "regions": Kind(REGIONS),
    "regions, cascade": Kind(REGIONS, ("3d_lowres", "3d_cascade_fullres")),
    "ignore label": Kind(IGNORE),
    "torch resampling": Kind(THICK, options=residual("L", "_torchres")),
    "torch resampling, slices": Kind(THICK, options=residual("L", "_torchres_sepz")),
    "reoriented by the reader": Kind(SIDEWAYS, options={"reader": "NibabelIOWithReorient"}),
    "trained without mirroring": Kind(ISO, options={"trainer": "nnUNetTrainerNoMirroring"}),
    "mirrored along two axes": Kind(SIDEWAYS, options={"trainer": "nnUNetTrainer_onlyMirror01"}),
    "plans before 2.4": Kind(ISO, options={"old_format": True}),
}


def main() -> int:
    """Compare, print a table and write files. Returns the exit code: 0 if everything agrees."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_peer(parser, "folder that holds the datasets")
    parser.add_argument("--work", type=Path, help="working folder, which is kept; default: a temporary folder")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, metavar="NAME", default=list(KINDS), help=", ".join(KINDS))
    parser.add_argument("--csv", type=Path, help="CSV file of the table")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = (arguments.work or Path(temporary)).absolute()
        write_datasets(work / "raw")
        for dataset in {KINDS[name].dataset for name in arguments.kinds}:
            if not (work / "raw" / dataset).exists():
                (work / "raw" / dataset).symlink_to((arguments.data / dataset).resolve(), target_is_directory=True)
        jobs = [job_of(name, KINDS[name], work) for name in arguments.kinds]
        run_peer(jobs, work, arguments)
        rows = [row for name, job in zip(arguments.kinds, jobs, strict=True) for row in compare(name, job, work)]
    show_table(rows, COLUMNS, arguments.csv)
    return 0 if all(row["labels_agree"] >= AGREE and row["max_difference"] <= CLOSE for row in rows) else 1


def job_of(name: str, kind: Kind, work: Path) -> dict[str, Any]:
    """Return a job for `peer_models`, and link the images to predict."""
    place = work / "kinds" / name.replace(" ", "_").replace(",", "")
    images = place / "images"
    images.mkdir(parents=True, exist_ok=True)
    source = work / "raw" / kind.dataset
    channels = len(json.loads((source / "dataset.json").read_text(encoding="utf-8"))["channel_names"])
    for image in sorted((source / "imagesTr").iterdir())[: kind.cases * channels]:
        link(images / image.name, image)
    defaults = {
        "planner": "ExperimentPlanner",
        "plans": "nnUNetPlans",
        "trainer": "nnUNetTrainer",
        "folds": [0],
        "seed": 0,
        "steps": 0,
    }
    defaults |= {"mirror": [False, True], "shrink": True, "old_format": False, "reader": None}
    given = {"name": name, "dataset": kind.dataset, "images": str(images), "output": str(place / "theirs")}
    return {**defaults, **given, "configurations": list(kind.configurations), "place": str(place), **kind.options}


def run_peer(jobs: list[dict[str, Any]], work: Path, arguments: argparse.Namespace) -> None:
    """Make the models and predict with nnU-Net, in one process for each kind, whose results have folders of their own."""
    for job in jobs:
        place = Path(job["place"])
        folders = {"nnUNet_raw": work / "raw", "nnUNet_preprocessed": place / "preprocessed", "nnUNet_results": place / "results"}
        for folder in folders.values():
            folder.mkdir(exist_ok=True)
        environment = {**os.environ, **{name: str(folder) for name, folder in folders.items()}, "nnUNet_compile": "f"}
        environment |= threads_environment(arguments.threads)
        write_json(place / "jobs.json", [job])
        if not (place / "done").exists():
            run_quietly(
                [str(arguments.peer), str(Path(__file__).with_name("peer_models.py")), str(place / "jobs.json")], environment
            )
            if KINDS[job["name"]].archive:
                _export(job, arguments.peer, environment)
            (place / "done").touch()


def _export(job: dict[str, Any], peer: Path, environment: dict[str, str]) -> None:
    words = ["-d", job["dataset"], "-o", f"{job['place']}/export.zip", "-c", *job["configurations"], "-tr", job["trainer"]]
    words += ["-p", job["plans"], "-f", *map(str, job["folds"])]
    run_quietly([str(peer.with_name("nnUNetv2_export_model_to_zip")), *words], environment)


def compare(name: str, job: dict[str, Any], work: Path) -> Iterator[dict[str, Any]]:
    """Import the model, predict with it and yield a row for each configuration and kind of mirroring."""
    kind, place = KINDS[name], Path(job["place"])
    last = kind.configurations[-1]
    results = place / "results" / kind.dataset / f"{job['trainer']}__{job['plans']}__{last}"
    source = place / "export.zip" if kind.archive else results
    ours = place / "ours"
    if not ours.exists():
        import_nnunet(source, ours)
    for configuration in kind.configurations:
        model = ours if len(kind.configurations) == 1 else ours / f"{configuration}_nnunet"
        for mirror in job["mirror"]:
            ending = f"{configuration}_{'mirrored' if mirror else 'plain'}"
            output = place / "predicted" / ending
            words = [
                "-i",
                job["images"],
                "-o",
                str(output),
                "-m",
                str(model),
                "--device",
                "cpu",
                "--save-probabilities",
                "--quiet",
            ]
            sys.argv = ["se_predict", *words, "--mirror" if mirror else "--no-mirror"]
            if se_predict() != 0:
                raise RuntimeError(f"prediction failed: {' '.join(sys.argv)}")
            row = {"kind": name, "configuration": configuration, "mirror": mirror, **measure(place / "theirs" / ending, output)}
            print(json.dumps(row), file=sys.stderr, flush=True)
            yield row


def measure(theirs: Path, ours: Path) -> dict[str, Any]:
    """Return the differences over all cases."""
    largest, equal, voxels, worst, seen = 0.0, 0, 0, 1.0, set[int]()
    cases = sorted(path.name.removesuffix(".nii.gz") for path in theirs.glob("*.nii.gz"))
    for case in cases:
        their = np.load(theirs / f"{case}.npz")["probabilities"]
        our = np.load(ours / f"{case}_probabilities.npz")["probabilities"]
        largest = max(largest, float(np.abs(their - our).max()))
        labels = [np.asanyarray(nibabel.load(folder / f"{case}.nii.gz").dataobj) for folder in (theirs, ours)]
        same = int((labels[0] == labels[1]).sum())
        equal, voxels, worst = equal + same, voxels + labels[0].size, min(worst, same / labels[0].size)
        seen |= {int(value) for value in np.unique(labels[1])}
    agree = {"labels_agree": equal / voxels, "worst_case": worst}
    return {"cases": len(cases), "max_difference": largest, **agree, "classes_seen": len(seen)}


# Name: spacing (Z, Y, X) in mm, axis order of storage, channels, labels and further entries of dataset.json.
MADE: dict[str, dict[str, Any]] = {
    ISO: {"spacing": (1.0, 1.0, 1.0)},
    THICK: {"spacing": (4.5, 0.9, 0.9)},
    SIDEWAYS: {"spacing": (4.5, 0.9, 0.9), "stored": (1, 2, 0)},
    CHANNELS: {"spacing": (1.0, 1.0, 1.0), "channels": ("CT", "MR", "noNorm", "rescale_to_0_1", "rgb_to_0_1")},
    REGIONS: {
        "spacing": (1.0, 1.0, 1.0),
        "labels": {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "inner": [3]},
        "more": {"regions_class_order": [1, 2, 3]},
    },
    IGNORE: {"spacing": (1.0, 1.0, 1.0), "labels": {"background": 0, "a": 1, "b": 2, "ignore": 3}},
}
SHAPE, CASES = (44, 48, 40), 4


def write_datasets(folder: Path) -> None:
    """Write the datasets of `MADE`: smooth noise in a box of zeros, with nested balls as labels, in several spacings."""
    for name, made in MADE.items():
        if (folder / name / "dataset.json").exists():
            continue
        channels = made.get("channels", ("MR",))
        description = {
            "channel_names": {str(index): channel for index, channel in enumerate(channels)},
            "labels": made.get("labels", {"background": 0, "a": 1, "b": 2, "c": 3}),
            "numTraining": CASES,
            "file_ending": ".nii.gz",
            **made.get("more", {}),
        }
        for number in range(CASES):
            _write_case(folder / name, f"case_{number}", number, made, channels)
        write_json(folder / name / "dataset.json", description)


def _write_case(folder: Path, case: str, seed: int, made: dict[str, Any], channels: tuple[str, ...]) -> None:
    random = np.random.default_rng(seed)
    spacing = np.array(made["spacing"]) * (1 + 0.12 * seed)
    shape = [max(12, round(size / (step / min(spacing)) ** 0.6)) for size, step in zip(SHAPE, spacing, strict=True)]
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, size) for size in shape), indexing="ij"))
    labels = sum((np.linalg.norm(grid, axis=0) < radius).astype(np.uint8) for radius in (0.7, 0.45, 0.25))
    inside = np.abs(grid).max(0) < 0.85  # around it, images are 0 and cropped
    stored = made.get("stored", (0, 1, 2))
    affine = np.diag([*spacing[list(stored)][::-1], 1.0])
    for index, name in enumerate(channels):
        noise = ndimage.gaussian_filter(random.normal(size=shape), 1.5) * 4 + labels
        values = np.clip(noise * 40 + 60, 0, 255) if "rgb" in name else noise * 100 + 300
        image = np.where(inside, np.maximum(values, 1), 0).astype(np.float32).transpose(stored)
        _save(folder / "imagesTr" / f"{case}_{index:04d}.nii.gz", image, affine)
    _save(folder / "labelsTr" / f"{case}.nii.gz", labels.transpose(stored), affine)


def _save(path: Path, array: np.ndarray, affine: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array.T, affine), path)


if __name__ == "__main__":
    sys.exit(main())
