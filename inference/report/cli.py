"""The command se_report."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from configs.cli import Bar, add_device, add_image_format, fill, keep_log, run

if TYPE_CHECKING:
    from inference.report.run import ReportOptions


@dataclass(frozen=True)
class ReportCommand:
    """What se_report is asked to do."""

    folder: Path  # folder of a model, of a dataset, or WORK
    options: "ReportOptions"  # what is measured and shown
    output: Path | None = None  # page to write; None takes the default name in `folder`
    quiet: bool = False  # show warnings and errors only


def main() -> int:
    """Run se_report and return its exit code."""
    return run(_parser(), _read, _report)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="se_report",
        description="Write a page on a trained model: plan, training, scores with intervals, best and worst cases, sizes. "
        "For a folder of several models, also write a page that compares them.",
    )
    add = parser.add_argument
    add(
        "folder",
        type=Path,
        metavar="MODEL_OR_WORK",
        help="folder such as se_work/DATASET/models/3d_fullres_se, se_work/DATASET or se_work",
    )
    add("-o", "--output", type=Path, help="page to write; default: report.html in a model's folder, models.html in another")
    add("--worst", type=int, default=3, metavar="N", help="number of worst cases shown with all slices; default: %(default)s")
    add(
        "--equivariance",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="measure the network's scale equivariance, once for its weights; default: yes",
    )
    add_image_format(parser)
    add_device(add, "device of that measurement: ")
    return parser


def _read(given: argparse.Namespace) -> ReportCommand:
    from configs.errors import Fault, InputError
    from inference.report.run import ReportOptions
    from preprocessing.formats.registry import use_format

    use_format(given.image_format)
    if given.worst < 0:
        raise InputError(Fault(f"--worst {given.worst}", "the number must not be negative", "Give 0 or more"))
    return fill(ReportCommand, given, options=fill(ReportOptions, given))


def _report(command: ReportCommand) -> None:
    from configs.folders import ModelFolder
    from inference.report.run import find_models, is_model, write_report

    models = [command.folder] if is_model(command.folder) else find_models(command.folder)
    keep_log(command.folder, plan=[ModelFolder(model).plan for model in models])
    print(write_report(command.folder, command.output, command.options, Bar(command.quiet)))
