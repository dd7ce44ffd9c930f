"""The commands se_predict and se_evaluate."""

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from configs.cli import DONE, FAILED, Bar, run

if TYPE_CHECKING:
    from configs.errors import Fault
    from inference.options import PredictionOptions
    from inference.predictor import Predictor
    from inference.record import PredictionRecord

logger = logging.getLogger(__name__)


def predict_main() -> int:
    """Run se_predict. Returns the exit code."""
    return run(_predict, _predict_parser())


def evaluate_main() -> int:
    """Run se_evaluate. Returns the exit code."""
    return run(_evaluate, _evaluate_parser())


def _predict_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="se_predict", description="Segment images with a trained model, each in its own exact geometry."
    )
    parser.add_argument("-i", "--input", type=Path, required=True, help="an image file, or a folder of images")
    parser.add_argument("-o", "--output", type=Path, required=True, help="a folder; or a file, for one case")
    parser.add_argument("-m", "--model", type=Path, required=True, help="a model folder, with plan.json and fold_*")
    parser.add_argument(
        "--folds", nargs="+", default=["all"], help="folds to average over, such as 0 1; default: all that are trained"
    )
    parser.add_argument("--checkpoint", choices=("final", "best"), default="final", help="which weights; default: %(default)s")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, mps; default: the best there is")
    ensemble = parser.add_argument_group("test-time ensembling and speed")
    ensemble.add_argument("--scales", nargs="+", metavar="plan|none|F", help="scale factors to average over; default: the plan's")
    ensemble.add_argument("--mirror", action=argparse.BooleanOptionalAction, help="average over mirror images; default: yes")
    ensemble.add_argument("--step-size", type=float, help="largest distance of tiles as a share of the patch; default: 0.5")
    ensemble.add_argument("--tile-batch", type=int, help="tiles per forward pass; default: by device")
    ensemble.add_argument("--fast", action="store_true", help="no ensembling over mirror images and scales, step size 0.75")
    more = parser.add_argument_group("output and division of work")
    more.add_argument("--save-probabilities", action="store_true", help="also write CASE_probabilities.npz")
    more.add_argument("--preview", action="store_true", help="also write CASE_preview.png: slices with outlines")
    more.add_argument("--continue", dest="keep", action="store_true", help="leave out cases whose segmentation exists")
    more.add_argument("--part-id", type=int, default=0, help="which part of the cases, from 0; default: %(default)s")
    more.add_argument("--num-parts", type=int, default=1, help="number of parts; default: %(default)s")
    return parser


def _evaluate_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="se_evaluate", description="Compare segmentations with references: Dice, IoU, precision, recall, volume error."
    )
    parser.add_argument("predictions", type=Path, help="folder of segmentations")
    parser.add_argument("references", type=Path, help="folder of reference label files with the same names")
    parser.add_argument(
        "-o", "--output", type=Path, help="JSON to write, with a CSV beside it; default: PREDICTIONS/metrics.json"
    )
    parser.add_argument(
        "--labels", type=Path, help="dataset.json or plan.json that names the labels; default: found beside the files"
    )
    parser.add_argument("--surface", action="store_true", help="also surface Dice and 95 %% Hausdorff distance")
    parser.add_argument("--tolerance", type=float, default=1.0, help="of the surface Dice in mm; default: %(default)s")
    parser.add_argument("--jobs", type=int, default=1, help="processes; default: %(default)s")
    return parser


def _predict(arguments: argparse.Namespace) -> int:
    from configs.errors import InputError, collecting, raise_faults
    from inference.prediction import Extras, plan_outputs, predict_cases
    from inference.record import FILE, record_of
    from preprocessing.dataset import find_cases

    faults: list[Fault] = []
    with collecting(faults):
        predictor = _load_predictor(arguments)
    with collecting(faults):
        _check_input(arguments)
    raise_faults(faults)
    found = find_cases(arguments.input, predictor.description)
    outputs = plan_outputs(found, arguments.output)
    names = sorted(found)[arguments.part_id :: arguments.num_parts]
    cases = {case: found[case] for case in names if not (arguments.keep and outputs[case].exists())}
    if len(cases) < len(names):
        logger.info("%d of %d cases are there already", len(names) - len(cases), len(names))
    if not cases:
        return DONE
    record = record_of(predictor, str(arguments.model), arguments.checkpoint)
    logger.info("%s", _describe(record, predictor, len(cases)))
    folder = outputs[next(iter(cases))].parent
    folder.mkdir(parents=True, exist_ok=True)
    record.write(folder / FILE)
    extras = Extras(probabilities=arguments.save_probabilities, preview=arguments.preview)
    failures = predict_cases(predictor, cases, outputs, extras, Bar(arguments.quiet))
    if len(failures) == len(cases):
        raise_faults(fault for error in failures.values() if isinstance(error, InputError) for fault in error.faults)
    for case, error in failures.items():
        reasons = error.faults if isinstance(error, InputError) else [f"{type(error).__name__}: {error}"]
        logger.error("case `%s` failed: %s", case, "; ".join(map(str, reasons)))
    logger.info("%d of %d cases segmented, in %s", len(cases) - len(failures), len(cases), folder)
    return FAILED if failures else DONE


def _load_predictor(arguments: argparse.Namespace) -> "Predictor":
    from configs.errors import collecting, raise_faults
    from inference.device import choose_device
    from inference.model import load_model
    from inference.predictor import Predictor

    faults: list[Fault] = []
    with collecting(faults):
        device = choose_device(arguments.device)
    with collecting(faults):
        options = _options(arguments)
    with collecting(faults):
        model = load_model(arguments.model, None if arguments.folds == ["all"] else arguments.folds, arguments.checkpoint)
    raise_faults(faults)
    return Predictor(model, device, options)


def _options(arguments: argparse.Namespace) -> "PredictionOptions":
    """What the command line says about sliding window and ensembling; --fast decides where it says nothing."""
    from configs.errors import Fault, InputError
    from inference.options import FAST, PredictionOptions

    given = FAST if arguments.fast else PredictionOptions()
    mirror = given.mirror if arguments.mirror is None else arguments.mirror
    step = given.step if arguments.step_size is None else arguments.step_size
    try:
        scales = given.scales if arguments.scales is None else _parse_scales(arguments.scales)
        return PredictionOptions(mirror=mirror, scales=scales, step=step, tile_batch=arguments.tile_batch)
    except ValueError as error:
        raise InputError(Fault("the options", str(error), "See se_predict --help")) from error


def _parse_scales(words: list[str]) -> tuple[float, ...] | None:
    if words == ["plan"]:
        return None
    return (1.0,) if words == ["none"] else tuple(float(word) for word in words)


def _check_input(arguments: argparse.Namespace) -> None:
    from configs.errors import Fault, raise_faults

    faults = []
    if not arguments.input.exists():
        faults.append(Fault(str(arguments.input), "there is no such file or folder", "Check the path after -i"))
    if not 0 <= arguments.part_id < arguments.num_parts:
        problem = f"part {arguments.part_id} of {arguments.num_parts} does not exist"
        faults.append(Fault("--part-id", problem, "Parts are numbered from 0 to --num-parts less 1"))
    raise_faults(faults)


def _describe(record: "PredictionRecord", predictor: "Predictor", cases: int) -> str:
    members = f"{len(record.folds)} fold(s) x {len(record.scales)} scale(s) x {2 ** len(record.mirror_axes)} reflection(s)"
    patch = " x ".join(map(str, predictor.model.network_plan.patch_size))
    return f"{cases} case(s) on {predictor.device}: {members}, tiles of {patch}, step {record.step:g}"


def _evaluate(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from configs.errors import collecting, raise_faults
    from inference.evaluation import evaluate
    from inference.label_files import load_description
    from inference.tables import score_table

    faults: list[Fault] = []
    with collecting(faults):
        _check_numbers(arguments)
    description = None
    with collecting(faults):
        description = load_description(arguments.labels) if arguments.labels else None
    raise_faults(faults)
    result = evaluate(
        arguments.predictions,
        arguments.references,
        description,
        tolerance=arguments.tolerance if arguments.surface else None,
        jobs=arguments.jobs,
        progress=Bar(arguments.quiet),
    )
    output = arguments.output or arguments.predictions / "metrics.json"
    output.parent.mkdir(parents=True, exist_ok=True)
    result.write(output)
    result.write_csv(output.with_suffix(".csv"))
    Console().print(score_table(result))
    logger.info("written to %s and %s", output, output.with_suffix(".csv"))
    return DONE


def _check_numbers(arguments: argparse.Namespace) -> None:
    from configs.errors import Fault, raise_faults

    wrong = {"--tolerance": arguments.tolerance < 0, "--jobs": arguments.jobs < 1}
    raise_faults(
        Fault(option, "the number is too small", "See se_evaluate --help") for option, is_wrong in wrong.items() if is_wrong
    )
