"""The command se_evaluate."""

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from configs.cli import DONE, Bar, keep_log, run

if TYPE_CHECKING:
    from configs.errors import Fault

logger = logging.getLogger(__name__)


def main() -> int:
    """Run se_evaluate. Returns the exit code."""
    return run(_evaluate, _evaluate_parser())


def _evaluate_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="se_evaluate",
        description="Compare segmentations with references: Dice, IoU, precision, recall, volume error, lesion-wise F1. "
        "With -m, predict a model's own validation cases with their anatomy made larger and smaller.",
    )
    add = parser.add_argument
    add("predictions", type=Path, nargs="?", help="folder of segmentations")
    add("references", type=Path, nargs="?", help="folder of reference label files with the same names")
    add(
        "-o",
        "--output",
        type=Path,
        help="JSON to write, with a CSV beside it; default: metrics.json in the folder of segmentations",
    )
    add("--labels", type=Path, help="dataset.json or plan.json that names the labels; default: found beside the files")
    model = parser.add_argument_group("a model at several sizes of the anatomy").add_argument
    model("-m", "--model", type=Path, help="model folder under WORK/DATASET/models")
    model("--scales", nargs="+", type=float, metavar="F", help="sizes; default: 0.6 0.8 1 1.25 1.6")
    model("--ensemble", nargs="+", type=float, metavar="F", help="also with test-time ensembling over these scale factors")
    model("--confidence", action="store_true", help="also with --scale-weights confidence, see se_predict")
    model(
        "--learn-weights",
        nargs="+",
        type=float,
        metavar="F",
        help="instead: learn weights of these scale factors, for se_predict",
    )
    model("--folds", nargs="+", default=["all"], help="default: all that are trained")
    model("--checkpoint", choices=("final", "best"), default="final", help="which weights; default: %(default)s")
    model("--mirror", action=argparse.BooleanOptionalAction, default=True, help="average over mirror images; default: yes")
    model("--cases", type=int, metavar="N", help="at most so many validation cases of each fold")
    model("--device", help="cpu, cuda, cuda:1, mps; default: the best there is")
    parser.add_argument("--surface", action="store_true", help="also surface Dice and 95 %% Hausdorff distance")
    parser.add_argument("--tolerance", type=float, default=1.0, help="of the surface Dice in mm; default: %(default)s")
    parser.add_argument("--jobs", type=int, default=1, help="processes; default: %(default)s")
    return parser


def _evaluate(arguments: argparse.Namespace) -> int:
    if arguments.model is not None:
        return _evaluate_model(arguments)
    from rich.console import Console

    from configs.errors import collecting, raise_faults
    from configs.run_log import UNSEEDED
    from inference.evaluation.evaluate import evaluate
    from inference.evaluation.label_files import load_description
    from inference.evaluation.tables import score_table

    faults: list[Fault] = []
    with collecting(faults):
        _check_folders(arguments)
    with collecting(faults):
        _check_numbers(arguments)
    description = None
    with collecting(faults):
        description = load_description(arguments.labels) if arguments.labels else None
    raise_faults(faults)
    output = arguments.output or arguments.predictions / "metrics.json"
    keep_log(output.parent, seeds=UNSEEDED)
    result = evaluate(
        arguments.predictions,
        arguments.references,
        description,
        tolerance=arguments.tolerance if arguments.surface else None,
        jobs=arguments.jobs,
        progress=Bar(arguments.quiet),
    )
    output.parent.mkdir(parents=True, exist_ok=True)
    result.write(output)
    result.write_csv(output.with_suffix(".csv"))
    Console().print(score_table(result))
    logger.info("written to %s and %s", output, output.with_suffix(".csv"))
    return DONE


def _evaluate_model(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from configs.run_log import UNSEEDED, digests
    from inference.evaluation.robustness import Ensemble, HeldOut, scale_robustness
    from inference.evaluation.scale_weights import learn_scale_weights
    from inference.evaluation.tables import robustness_table
    from inference.options import CONFIDENCE
    from se_unet.cpu.allocator import keep_freed_memory

    _check_model_options(arguments)
    keep_freed_memory()
    plan = arguments.model / "plan.json"
    if plan.is_file():
        keep_log(arguments.model, plan=digests([plan]), seeds=UNSEEDED)
    held_out = HeldOut(
        arguments.model,
        folds=None if arguments.folds == ["all"] else arguments.folds,
        checkpoint=arguments.checkpoint,
        device=arguments.device,
        mirror=arguments.mirror,
        limit=arguments.cases,
    )
    progress = Bar(arguments.quiet)
    if arguments.learn_weights:
        learned = learn_scale_weights(held_out, arguments.learn_weights, progress)
        weights = ", ".join(f"{scale:g}: {weight:.3f}" for scale, weight in zip(learned.scales, learned.weights, strict=True))
        logger.info("weights of scales, kept in %s: %s", arguments.model, weights)
        return DONE
    ensembles: list[Ensemble] = [(1.0,)]
    ensembles += [tuple(arguments.ensemble)] if arguments.ensemble else []
    ensembles += [CONFIDENCE] if arguments.confidence else []
    result = scale_robustness(held_out, arguments.scales or (0.6, 0.8, 1.0, 1.25, 1.6), ensembles, progress)
    output = arguments.output or arguments.model / "scale_robustness.json"
    result.write(output)
    result.write_csv(output.with_suffix(".csv"))
    Console().print(robustness_table(result))
    logger.info("written to %s and %s", output, output.with_suffix(".csv"))
    return DONE


def _check_folders(arguments: argparse.Namespace) -> None:
    from configs.errors import Fault, InputError

    if arguments.predictions is None or arguments.references is None:
        problem = "there must be two folders, PREDICTIONS and REFERENCES, or a model after -m"
        raise InputError(Fault("se_evaluate", problem, "See se_evaluate --help"))


def _check_model_options(arguments: argparse.Namespace) -> None:
    from configs.errors import Fault, raise_faults

    factors = {"--scales": arguments.scales, "--ensemble": arguments.ensemble, "--learn-weights": arguments.learn_weights}
    faults = [
        Fault(option, f"factors must be above 0 and at most 8, not {given}", "Give factors such as 0.8 1 1.25")
        for option, given in factors.items()
        if any(not 0 < factor <= 8 for factor in given or ())
    ]
    if arguments.predictions is not None:
        faults.append(Fault(str(arguments.predictions), "folders do not go with -m", "Give either folders or a model"))
    if arguments.cases is not None and arguments.cases < 1:
        faults.append(Fault("--cases", f"the number must be at least 1, not {arguments.cases}", "See se_evaluate --help"))
    raise_faults(faults)


def _check_numbers(arguments: argparse.Namespace) -> None:
    from configs.errors import Fault, raise_faults

    wrong = {"--tolerance": arguments.tolerance < 0, "--jobs": arguments.jobs < 1}
    raise_faults(
        Fault(option, "the number is too small", "See se_evaluate --help") for option, is_wrong in wrong.items() if is_wrong
    )
