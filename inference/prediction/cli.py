"""The command se_predict."""

import argparse
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from configs.cli import DONE, FAILED, Bar, add_device, add_image_format, fill, keep_log, run

if TYPE_CHECKING:
    from inference.prediction.command import PredictCommand

logger = logging.getLogger(__name__)


def main() -> int:
    """Run se_predict and return its exit code."""
    return run(_parser(), _read, _predict)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="se_predict",
        description="Segment images with trained models. Each segmentation keeps the exact geometry of its image.",
    )
    add = parser.add_argument
    add(
        "-i",
        "--input",
        type=Path,
        required=True,
        help="image file, folder of images, list of cases (.json, .txt), or DICOM: file, folder or ZIP file",
    )
    add("-o", "--output", type=Path, required=True, help="output folder; or output file, for one case")
    add("-m", "--model", dest="folders", type=Path, nargs="+", default=[], help="model folder; several are averaged")
    add("--selection", type=Path, metavar="FILE", help="file of se_select with models, folds, checkpoint and postprocessing")
    add("--folds", nargs="+", help="folds to average, such as 0 1; all: fold all; every, the default: every trained fold")
    add("--checkpoint", choices=("final", "best"), default="final", help="kind of weights; default: %(default)s")
    add_device(add)
    add("--scheduler", metavar="ADDRESS", help="address of a Dask scheduler whose workers predict")
    add("--network-class", metavar="MODULE:CLASS", help="custom network class of the model; its code is imported and runs")
    add_image_format(parser)
    _add_ensembling(parser)
    _add_outputs(parser)
    return parser


def _add_ensembling(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("test-time ensembling and speed").add_argument
    add(
        "--search",
        choices=("auto", "always", "never"),
        help="search the size of the anatomy in each image; auto, the default: where validation cases of the model show that it pays",
    )
    add("--scales", nargs="+", type=_factor, metavar="F", help="average over these factors of the image's size instead")
    add("--scale-weights", nargs="+", type=float, metavar="F", help="one weight for each of --scales; default: equal weights")
    add("--mirror", action=argparse.BooleanOptionalAction, help="average over mirror images; default: yes")
    add(
        "--step-size",
        dest="step",
        type=float,
        help="largest distance of neighbouring tiles as a share of the patch; default: 0.5",
    )
    add("--tile-batch", type=int, help="tiles per forward pass; default: depends on the device")
    add("--fast", action="store_true", help="no mirroring, no search, step size 0.75, unless other options say otherwise")
    add(
        "--average",
        choices=("probabilities", "logits"),
        help="quantity averaged over folds, scales and models; default: probabilities, or logits for one model of nnU-Net",
    )


def _factor(text: str) -> float:
    """Read a factor. Earlier versions had words beside factors."""
    former = {"none": "--search never", "plan": "--search auto"}
    if text in former:
        raise argparse.ArgumentTypeError(f"`{text}` is now {former[text]}")
    return float(text)


def _add_outputs(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("output and division of work").add_argument
    add("--save-probabilities", dest="probabilities", action="store_true", help="also write CASE_probabilities.npz")
    add(
        "--save-uncertainty",
        dest="uncertainty",
        action="store_true",
        help="also write the images CASE_entropy and CASE_disagreement",
    )
    add(
        "--preview",
        action="store_true",
        help="also write CASE_preview.png, slices with outlines, and CASE_preview.html, a viewer",
    )
    add("--statistics", action="store_true", help="also write volume, position, intensity and number of pieces of each label")
    add(
        "--features",
        action="store_true",
        help="also write shape and intensity features of each label, as PyRadiomics defines them",
    )
    add(
        "--dicom",
        nargs="?",
        const="binary",
        choices=("binary", "labelmap"),
        help="also write CASE.dcm, a DICOM segmentation, of DICOM series; default of its kind: binary",
    )
    add("--roi", nargs="+", metavar="LABEL", help="names of the labels to keep; the others become background")
    add("--continue", dest="skip_existing", action="store_true", help="skip cases that already have a segmentation")
    add("--part-id", dest="part", type=int, default=0, help="part of the cases to segment, from 0; default: %(default)s")
    add("--num-parts", dest="parts", type=int, default=1, help="number of parts; default: %(default)s")


def _read(given: argparse.Namespace) -> "PredictCommand":
    from inference.outputs.dicom.segmentation import DicomOutput
    from inference.prediction.command import GivenOptions, ModelChoice, PredictCommand, choose_models
    from inference.prediction.outputs import Extras
    from preprocessing.formats.registry import use_format

    use_format(given.image_format)
    models, postprocessing = choose_models(fill(ModelChoice, given), given.selection)
    dicom = None if given.dicom is None else DicomOutput(given.dicom)
    extras = fill(Extras, given, postprocessing=postprocessing, dicom=dicom)
    return fill(PredictCommand, given, models=models, given=fill(GivenOptions, given), extras=extras)


def _predict(command: "PredictCommand") -> int:
    import tempfile

    from configs.folders import ModelFolder
    from inference.prediction.job import prepare_job, run_job

    with tempfile.TemporaryDirectory() as room, _interruptible():
        job = prepare_job(command, Path(room))
        keep_log(job.folder, plan=[ModelFolder(folder).plan for folder in command.models.folders])
        failures = run_job(job, Bar(command.quiet))
    code = _report(failures, job.cases, job.folder)
    if job.refused:
        logger.error("%d series or files were refused, as said above", len(job.refused))
    return FAILED if job.refused else code


def _report(failures: Mapping[str, Exception], cases: Mapping[str, object], folder: Path) -> int:
    """Log the outcome and return the exit code. If every case failed by its input, raise `InputError` instead."""
    from configs.errors import InputError, raise_faults

    if failures and len(failures) == len(cases):
        raise_faults(fault for error in failures.values() if isinstance(error, InputError) for fault in error.faults)
    for case, error in failures.items():
        reasons = error.faults if isinstance(error, InputError) else [f"{type(error).__name__}: {error}"]
        logger.error("case `%s` failed: %s", case, "; ".join(map(str, reasons)))
    logger.info("%d of %d cases segmented; the output folder is %s", len(cases) - len(failures), len(cases), folder)
    return FAILED if failures else DONE


@contextmanager
def _interruptible() -> Iterator[None]:
    """Treat a scheduler's SIGTERM as a keyboard interrupt, so that files being written are finished or removed."""
    import signal
    import threading

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
