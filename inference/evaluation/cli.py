"""The command se_evaluate."""

import argparse
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from configs.cli import Bar, add_device, add_image_format, fill, keep_log, run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from configs.dataset import DatasetDescription
    from configs.errors import Fault
    from inference.evaluation.robustness import Ensemble, HeldOut
    from inference.evaluation.scores import Unmatched

logger = logging.getLogger(__name__)
SIZES = (0.6, 0.8, 1.0, 1.25, 1.6)  # factors of the anatomy's size where none are given


@dataclass(frozen=True)
class EvaluateCommand:
    """What se_evaluate is asked to do with two folders."""

    predictions: Path  # folder of segmentations
    references: Path  # folder of reference label files
    output: Path  # JSON file to write, with a CSV file beside it
    description: "DatasetDescription | None" = None  # names of the labels; None looks for them beside the files
    tolerance: float | None = None  # tolerance of the surface Dice in mm; None does not measure surfaces
    unmatched: "Unmatched" = "diagonal"  # 95 % Hausdorff distance of a missed or invented structure
    allow_missing: bool = False  # whether references without a prediction leave the exit code at 0
    jobs: int = 1  # number of processes
    quiet: bool = False  # show warnings and errors only


@dataclass(frozen=True)
class RobustnessCommand:
    """What se_evaluate is asked to do with a model at several sizes of the anatomy."""

    held_out: "HeldOut"  # the model and its validation cases
    output: Path  # JSON file to write, with a CSV file beside it
    sizes: tuple[float, ...]  # factors of the anatomy's size
    ensembles: "tuple[Ensemble, ...]"  # ways of test-time scale ensembling to compare
    quiet: bool = False  # show warnings and errors only


@dataclass(frozen=True)
class CalibrateCommand:
    """What se_evaluate is asked to do with --calibrate."""

    held_out: "HeldOut"  # the model and its validation cases
    dataset: Path | None = None  # raw dataset with cases to calibrate on; None takes the validation cases
    quiet: bool = False  # show warnings and errors only


def main() -> int:
    """Run se_evaluate and return its exit code."""
    return run(_parser(), _read, _work)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="se_evaluate",
        description="Compare segmentations with references: Dice, IoU, precision, recall, volume error, lesion-wise F1. "
        "With -m, predict the validation cases of a model at several sizes of the anatomy.",
    )
    add = parser.add_argument
    add("predictions", type=Path, nargs="?", help="folder of segmentations")
    add("references", type=Path, nargs="?", help="folder of reference label files with the same names")
    add(
        "-o",
        "--output",
        type=Path,
        help="output JSON file, with a CSV file beside it; default: in the folder of segmentations, or "
        "scale_robustness.json in the model folder",
    )
    add("--labels", type=Path, help="dataset description or plan with the names of the labels; default: found beside the files")
    model = parser.add_argument_group("a model at several sizes of the anatomy").add_argument
    model("-m", "--model", type=Path, help="model folder under WORK/DATASET/models")
    model("--scales", nargs="+", type=float, metavar="F", help="sizes of the anatomy; default: 0.6 0.8 1 1.25 1.6")
    model(
        "--ensemble", nargs="+", type=float, metavar="F", help="also predict with test-time ensembling over these scale factors"
    )
    model("--search", action="store_true", help="also predict with --search always, see se_predict")
    model(
        "--calibrate",
        nargs="?",
        const="",
        metavar="DATASET",
        help="instead, calibrate the expected Dice, and decide whether se_predict searches the size of the anatomy: on the validation "
        "cases, or on the cases of a raw dataset that the model does not know",
    )
    model("--folds", nargs="+", help="folds to evaluate, such as 0 1, or every; default: every trained fold")
    model("--checkpoint", choices=("final", "best"), default="final", help="kind of weights; default: %(default)s")
    model("--mirror", action=argparse.BooleanOptionalAction, default=True, help="average over mirror images; default: yes")
    model("--cases", type=int, metavar="N", help="largest number of validation cases per fold; default: all cases")
    add_device(model)
    add_image_format(parser)
    parser.add_argument("--surface", action="store_true", help="also measure surface Dice and 95 %% Hausdorff distance")
    parser.add_argument("--tolerance", type=float, default=1.0, help="tolerance of the surface Dice in mm; default: %(default)s")
    parser.add_argument(
        "--unmatched",
        choices=("diagonal", "excluded"),
        default="diagonal",
        help="95 %% Hausdorff distance of a structure that only the prediction or only the reference has: the diagonal of the image, "
        "or excluded from the mean; default: %(default)s",
    )
    parser.add_argument("--allow-missing", action="store_true", help="exit code 0 although some references have no prediction")
    parser.add_argument("--jobs", type=int, default=1, help="number of processes; default: %(default)s")
    return parser


def _read(given: argparse.Namespace) -> EvaluateCommand | RobustnessCommand | CalibrateCommand:
    from preprocessing.formats.registry import use_format

    use_format(given.image_format)
    return _read_folders(given) if given.model is None else _read_model(given)


def _read_folders(given: argparse.Namespace) -> EvaluateCommand:
    from configs.errors import Fault, collecting, raise_faults
    from configs.folders import METRICS
    from inference.evaluation.label_files import load_description

    faults: list[Fault] = []
    if given.predictions is None or given.references is None:
        problem = "it needs two folders, PREDICTIONS and REFERENCES, or a model after -m"
        faults.append(Fault("se_evaluate", problem, "See se_evaluate --help"))
    if given.tolerance < 0:
        faults.append(Fault("--tolerance", f"the number must not be negative, not {given.tolerance:g}", "Give 0 mm or more"))
    if given.jobs < 1:
        faults.append(Fault("--jobs", f"the number of processes must be at least 1, not {given.jobs}", "Give 1 or more"))
    description = None
    with collecting(faults):
        description = load_description(given.labels) if given.labels else None
    raise_faults(faults)
    output = given.output or given.predictions / METRICS
    raise_faults(_output_faults(output))
    tolerance = given.tolerance if given.surface else None
    return fill(EvaluateCommand, given, output=output, description=description, tolerance=tolerance)


def _output_faults(output: Path) -> "Iterator[Fault]":
    """Yield the faults of the JSON file and of the CSV file beside it."""
    from configs.outputs import file_faults

    return file_faults(output, output.with_suffix(".csv")) if output.name else file_faults(output)


def _read_model(given: argparse.Namespace) -> RobustnessCommand | CalibrateCommand:
    from configs.errors import Fault, raise_faults
    from configs.folders import ModelFolder
    from inference.evaluation.robustness import SEARCH, Ensemble, HeldOut
    from inference.model import chosen_folds

    factors = {"--scales": given.scales, "--ensemble": given.ensemble}
    faults = [
        Fault(option, f"factors must be above 0 and at most 8, not {values}", "Give factors such as 0.8 1 1.25")
        for option, values in factors.items()
        if any(not 0 < factor <= 8 for factor in values or ())
    ]
    if given.predictions is not None:
        faults.append(Fault(str(given.predictions), "folders cannot be combined with -m", "Give either folders or a model"))
    if given.cases is not None and given.cases < 1:
        faults.append(Fault("--cases", f"the number must be at least 1, not {given.cases}", "Give 1 or more"))
    raise_faults(faults)
    folds = chosen_folds(given.folds, [given.model])
    held_out = HeldOut(given.model, folds, given.checkpoint, given.device, given.mirror, given.cases)
    if given.calibrate is not None:
        return CalibrateCommand(held_out, Path(given.calibrate) if given.calibrate else None, given.quiet)
    ensembles: list[Ensemble] = [(1.0,)]
    ensembles += [tuple(given.ensemble)] if given.ensemble else []
    ensembles += [SEARCH] if given.search else []
    output = given.output or ModelFolder(given.model).robustness
    raise_faults(_output_faults(output))
    return RobustnessCommand(held_out, output, tuple(given.scales or SIZES), tuple(ensembles), given.quiet)


def _work(command: EvaluateCommand | RobustnessCommand | CalibrateCommand) -> None:
    if isinstance(command, EvaluateCommand):
        _evaluate(command)
    elif isinstance(command, RobustnessCommand):
        _measure_robustness(command)
    else:
        _calibrate(command)


def _evaluate(command: EvaluateCommand) -> None:
    from rich.console import Console

    from inference.evaluation.evaluate import evaluate
    from inference.evaluation.tables import score_table

    keep_log(command.output.parent)
    result = evaluate(
        command.predictions,
        command.references,
        command.description,
        tolerance=command.tolerance,
        unmatched=command.unmatched,
        jobs=command.jobs,
        progress=Bar(command.quiet),
    )
    command.output.parent.mkdir(parents=True, exist_ok=True)
    result.write(command.output)
    result.write_csv(command.output.with_suffix(".csv"))
    Console(emoji=False).print(score_table(result))
    logger.info("written to %s and %s", command.output, command.output.with_suffix(".csv"))
    if result.without_prediction:
        _report_missing(result.without_prediction, command)


def _report_missing(cases: tuple[str, ...], command: EvaluateCommand) -> None:
    """Name the references that no score includes, as a fault unless they are allowed."""
    from configs.errors import Fault, InputError, counted

    problem = f"{counted(len(cases), 'reference')} without a prediction: {', '.join(cases)}"
    if not command.allow_missing:
        raise InputError(Fault(str(command.predictions), problem, "Add the predictions, or allow this with --allow-missing"))
    logger.warning("%s: %s", command.predictions, problem)


def _measure_robustness(command: RobustnessCommand) -> None:
    from rich.console import Console

    from inference.evaluation.robustness import scale_robustness
    from inference.evaluation.tables import robustness_table

    _prepare_process(command.held_out)
    result = scale_robustness(command.held_out, command.sizes, command.ensembles, Bar(command.quiet))
    result.write(command.output)
    result.write_csv(command.output.with_suffix(".csv"))
    Console().print(robustness_table(result))
    logger.info("written to %s and %s", command.output, command.output.with_suffix(".csv"))


def _calibrate(command: CalibrateCommand) -> None:
    from configs.folders import ModelFolder
    from inference.evaluation.calibration import calibrate_held_out, calibrate_on_dataset

    _prepare_process(command.held_out)
    given, dataset, bar = command.held_out, command.dataset, Bar(command.quiet)
    made = calibrate_held_out(given, bar) if dataset is None else calibrate_on_dataset(given, dataset, bar)
    if made is not None:
        logger.info("written to %s", ModelFolder(given.model_folder).calibration)


def _prepare_process(held_out: "HeldOut") -> None:
    """Keep freed memory for the next prediction, and a log in the model folder."""
    from configs.folders import ModelFolder
    from se_unet.cpu.allocator import keep_freed_memory

    keep_freed_memory()
    plan = ModelFolder(held_out.model_folder).plan
    if plan.is_file():
        keep_log(held_out.model_folder, plan=[plan])
