"""The command se_select."""

import argparse
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from configs.cli import Bar, add_device, add_image_format, fill, keep_log, run

if TYPE_CHECKING:
    from inference.prediction.selection import Selection
    from inference.selection.run import SelectionOptions

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SelectCommand:
    """What se_select is asked to do."""

    work: Path  # folder of the dataset under WORK
    options: "SelectionOptions"  # what is compared
    output: Path | None = None  # file to write; None takes `selection.json` in that folder
    quiet: bool = False  # show warnings and errors only


def main() -> int:
    """Run se_select and return its exit code."""
    return run(_parser(), _read, _select)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="se_select",
        description="Compare cross-validated models by mean Dice over all cases, and choose which of them to predict with.",
    )
    add = parser.add_argument
    add("work", type=Path, metavar="WORK", help="folder of the dataset, such as se_work/Dataset001_Name")
    add("-o", "--output", type=Path, help="output file, an input of se_predict --selection; default: WORK/selection.json")
    add("--folds", nargs="+", help="folds to compare, such as 0 1; every, the default: every fold of the splits")
    add(
        "--ensembles",
        type=int,
        nargs="?",
        const=3,
        default=0,
        metavar="N",
        help="also compare averages of pairs of the N best models (N: 3); predicts their validation cases",
    )
    add("--checkpoints", action="store_true", help="also compare the best checkpoints; predicts their validation cases")
    add(
        "--no-postprocessing",
        dest="postprocessing",
        action="store_false",
        help="do not search for postprocessing rules that remove small pieces",
    )
    add_image_format(parser)
    add_device(add, "device of predictions: ")
    add("--jobs", type=int, default=1, help="number of processes for postprocessing; default: %(default)s")
    return parser


def _read(given: argparse.Namespace) -> SelectCommand:
    from configs.errors import Fault, InputError
    from configs.folders import EVERY
    from inference.selection.run import SelectionOptions
    from preprocessing.formats.registry import use_format

    use_format(given.image_format)
    if given.jobs < 1:
        raise InputError(Fault(f"--jobs {given.jobs}", "the number of processes must be at least 1", "Give 1 or more"))
    folds = None if given.folds in (None, [EVERY]) else tuple(given.folds)
    return fill(SelectCommand, given, options=fill(SelectionOptions, given, folds=folds))


def _select(command: SelectCommand) -> None:
    from configs.folders import DatasetFolder
    from inference.selection.candidates import find_dataset_folder
    from inference.selection.run import select

    dataset = find_dataset_folder(command.work)
    keep_log(dataset, plan=[model.plan for model in DatasetFolder(dataset).models])
    path, selection = select(command.work, command.output, command.options, Bar(command.quiet))
    logger.debug("written to %s: %s", path, selection.command)
    if not command.quiet:
        _print(path, selection)


def _print(path: Path, selection: "Selection") -> None:
    width = max(len(candidate.name) for candidate in selection.candidates)
    print(f"Mean foreground Dice over {selection.cases} validation cases of fold {', '.join(selection.folds)}\n")
    print(f"  {'candidate':<{width}}    Dice   Dice below the chosen one, mean and standard error")
    for candidate in selection.candidates:
        error = "" if candidate.error is None else f" +- {candidate.error:.4f}"
        print(f"  {candidate.name:<{width}}  {candidate.dice:.4f}   {candidate.behind:.4f}{error}")
    for reason in selection.left_out:
        print(f"  left out: {reason}")
    for label, rule in selection.postprocessing.rules.items():
        gain = selection.gains[label]
        what = "only its largest piece" if rule.only_largest else f"pieces of at least {rule.smallest_volume:.3g} mm3"
        print(
            f"\nOf {label} keep {what}: Dice {gain.before:.4f} to {gain.after:.4f}, {gain.better} cases better, {gain.worse} worse"
        )
    print(f"\n{path}\n{selection.command}")
