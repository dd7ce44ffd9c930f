"""The command se_dicom."""

import argparse
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from configs.cli import DONE, FAILED, Bar, add_verbosity, fill, run

if TYPE_CHECKING:
    from preprocessing.dicom.find import FoundSeries

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DicomList:
    """What `se_dicom list` is asked to do."""

    input: Path  # folder, ZIP file or file with DICOM images


@dataclass(frozen=True)
class DicomConvert:
    """What `se_dicom convert` is asked to do."""

    input: Path  # folder, ZIP file or file with DICOM images
    output: Path  # folder of the images
    quiet: bool = False  # show warnings and errors only


@dataclass(frozen=True)
class DicomDataset:
    """What `se_dicom dataset` is asked to do."""

    input: Path  # folder, ZIP file or file with DICOM images
    output: Path  # folder of the dataset
    labels: Path  # folder, ZIP file or file with the labels
    channel: str | None = None  # name of the channel; None takes the modality
    names: tuple[tuple[str, int], ...] = ()  # labels with their values; others are named by the files
    quiet: bool = False  # show warnings and errors only


def main() -> int:
    """Run se_dicom and return its exit code."""
    return run(_parser(), _read, _dicom)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="se_dicom", description="See which DICOM series can be segmented, convert them, or make a dataset of them."
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="list|convert|dataset")
    show = actions.add_parser("list", help="show the series of a folder, and why others are left out or refused")
    convert = actions.add_parser("convert", help="write each series as a NIfTI file")
    dataset = actions.add_parser("dataset", help="write series and their labels as a dataset to train on")
    for action in (show, convert, dataset):
        action.add_argument("input", type=Path, help="folder with everything below it, ZIP file or file")
        add_verbosity(action, default=argparse.SUPPRESS)
    convert.add_argument("-o", "--output", type=Path, required=True, help="output folder")
    dataset.add_argument("-o", "--output", type=Path, required=True, help="folder of the new dataset")
    dataset.add_argument(
        "--labels", type=Path, required=True, help="DICOM segmentations or label files: folder, ZIP file or file"
    )
    dataset.add_argument("--channel", help="name of the channel, which chooses the normalisation; default: the modality")
    dataset.add_argument("--names", type=_name, nargs="+", metavar="LABEL=VALUE", help="names of label values, such as liver=1")
    return parser


def _name(text: str) -> tuple[str, int]:
    name, _, value = text.rpartition("=")
    if not name or not value.isdecimal() or int(value) == 0:
        raise argparse.ArgumentTypeError(f"`{text}` is not of the form LABEL=VALUE with a value above 0")
    return name, int(value)


def _read(given: argparse.Namespace) -> DicomList | DicomConvert | DicomDataset:
    kinds = {"list": DicomList, "convert": DicomConvert, "dataset": DicomDataset}
    return fill(kinds[given.action], given)


def _dicom(command: DicomList | DicomConvert | DicomDataset) -> int:
    if isinstance(command, DicomList):
        return _list(command)
    return _convert(command) if isinstance(command, DicomConvert) else _dataset(command)


def _list(command: DicomList) -> int:
    from configs.errors import printable
    from preprocessing.dicom.find import find_series
    from preprocessing.geometry.same_grid import in_words

    found = find_series(command.input)
    for case, series in found.series.items():
        grid = f"{in_words(series.geometry.shape)} voxels, {in_words(series.geometry.spacing)} mm (Z Y X)"
        print(printable(f"{case}: {series.modality}, {grid}, {found.places[case] or command.input}"))
    for title, faults in (("", found.left_out), ("refused: ", found.faults)):
        for fault in faults:
            place = next((f" [{place}]" for known, place in found.places.items() if known in fault.where), "")
            print(printable(f"{title}{fault}{place}"))
    return DONE


def _convert(command: DicomConvert) -> int:
    from preprocessing.dicom.dataset import convert

    found = convert(command.input, command.output, Bar(command.quiet))
    return _report(found, f"{len(found.series)} series converted; the output folder is {command.output}")


def _dataset(command: DicomDataset) -> int:
    from preprocessing.dicom.dataset import make_dataset, unique_names

    found = make_dataset(
        command.input, command.labels, command.output, command.channel, unique_names(command.names), Bar(command.quiet)
    )
    return _report(found, f"{command.output} is complete; go on with se_plan_and_preprocess {command.output}")


def _report(found: "FoundSeries", done: str) -> int:
    """Log what was not used, and return the exit code."""
    for fault in found.left_out:
        logger.info("%s", fault)
    for fault in found.faults:
        logger.error("%s", fault)
    logger.info("%s", done)
    return FAILED if found.faults else DONE
