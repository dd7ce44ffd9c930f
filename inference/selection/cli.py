"""The command se_select."""

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from configs.cli import Bar, keep_log, run

if TYPE_CHECKING:
    from inference.prediction.selection import Selection

logger = logging.getLogger(__name__)


def main() -> int:
    """Run se_select. Returns the exit code."""
    return run(_select, _parser())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="se_select",
        description="Compare what was cross-validated and choose what to predict with: by mean Dice over all cases.",
    )
    add = parser.add_argument
    add("work", type=Path, metavar="WORK", help="the dataset's folder, such as se_work/Dataset001_Name")
    add("-o", "--output", type=Path, help="file to write, which se_predict --selection follows; default: WORK/selection.json")
    add("--folds", nargs="+", help="folds to compare, such as 0 1; default: all of splits.json")
    add(
        "--ensembles",
        type=int,
        nargs="?",
        const=3,
        default=0,
        metavar="N",
        help="average pairs of the N best models (3); predicts",
    )
    add("--checkpoints", action="store_true", help="also compare the best checkpoints; predicts")
    add("--no-postprocessing", action="store_true", help="do not look for small pieces to take away")
    add("--device", help="for predictions: cpu, cuda, cuda:1, mps; default: the best there is")
    add("--jobs", type=int, default=1, help="processes for postprocessing; default: %(default)s")
    return parser


def _select(arguments: argparse.Namespace) -> None:
    from configs.errors import Fault, InputError
    from configs.run_log import UNSEEDED, digests
    from inference.selection.candidates import find_dataset_folder
    from inference.selection.run import SelectionOptions, select

    if arguments.jobs < 1:
        raise InputError(Fault(f"--jobs {arguments.jobs}", "there must be at least one process", "Give 1 or more"))
    dataset = find_dataset_folder(arguments.work)
    keep_log(dataset, plan=digests(sorted(dataset.glob("models/*/plan.json"))), seeds=UNSEEDED)
    options = SelectionOptions(
        folds=None if arguments.folds is None else tuple(arguments.folds),
        ensembles=arguments.ensembles,
        checkpoints=arguments.checkpoints,
        postprocessing=not arguments.no_postprocessing,
        device=arguments.device,
        jobs=arguments.jobs,
    )
    path, selection = select(arguments.work, arguments.output, options, Bar(arguments.quiet))
    logger.debug("written to %s: %s", path, selection.command)
    if not arguments.quiet:
        _print(path, selection)


def _print(path: Path, selection: "Selection") -> None:
    width = max(len(candidate.name) for candidate in selection.candidates)
    print(f"Mean foreground Dice over {selection.cases} validation cases of fold {', '.join(selection.folds)}\n")
    print(f"  {'candidate':<{width}}    Dice   behind the chosen one, mean and standard error")
    for candidate in selection.candidates:
        error = "" if candidate.error is None else f" +- {candidate.error:.4f}"
        print(f"  {candidate.name:<{width}}  {candidate.dice:.4f}   {candidate.behind:.4f}{error}")
    for reason in selection.left_out:
        print(f"  left out: {reason}")
    for label, rule in selection.postprocessing.rules.items():
        gain = selection.gains[label]
        what = "its largest piece alone" if rule.only_largest else f"pieces of at least {rule.smallest_volume:.3g} mm3"
        print(
            f"\nOf {label} keep {what}: Dice {gain.before:.4f} to {gain.after:.4f}, {gain.better} cases better, {gain.worse} worse"
        )
    print(f"\n{path}\n{selection.command}")
