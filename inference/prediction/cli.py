"""The command se_predict."""

import argparse
import logging
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from configs.cli import DONE, FAILED, Bar, keep_log, run

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from configs.errors import Fault
    from inference.prediction.outputs import Extras
    from inference.prediction.record import PredictionRecord
    from inference.predictor import Predictor

logger = logging.getLogger(__name__)


def main() -> int:
    """Run se_predict. Returns the exit code."""
    return run(_predict, _predict_parser())


def _predict_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="se_predict", description="Segment images with trained models, each in its own exact geometry."
    )
    add = parser.add_argument
    add("-i", "--input", type=Path, required=True, help="an image file, a folder of images, or a list of cases (.json, .txt)")
    add("-o", "--output", type=Path, required=True, help="a folder; or a file, for one case")
    add("-m", "--model", type=Path, nargs="+", help="model folder, with plan.json and fold_*; several are averaged")
    add("--selection", type=Path, metavar="FILE", help="models, folds, checkpoint and postprocessing that se_select chose")
    add("--folds", nargs="+", default=["all"], help="folds to average over, such as 0 1; default: all that are trained")
    add("--checkpoint", choices=("final", "best"), default="final", help="which weights; default: %(default)s")
    add("--device", help="cpu, cuda, cuda:1, mps; default: the best there is")
    add("--scheduler", metavar="ADDRESS", help="of a Dask scheduler whose workers then do the work")
    add("--network-class", metavar="MODULE:CLASS", help="code of a model whose network is not ours; it is imported and runs")
    _add_ensembling(parser)
    _add_outputs(parser)
    return parser


def _add_ensembling(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("test-time ensembling and speed").add_argument
    add(
        "--scales",
        nargs="+",
        metavar="plan|none|F",
        help="scale factors to average over; default: those kept with the model, or else the plan's",
    )
    add(
        "--scale-weights",
        nargs="+",
        metavar="confidence|F",
        help="one for each of --scales, or `confidence`: found for each image, over a wide range of scales where none are given; "
        "default: learned ones, or all alike",
    )
    add("--mirror", action=argparse.BooleanOptionalAction, help="average over mirror images; default: yes")
    add("--step-size", type=float, help="largest distance of tiles as a share of the patch; default: 0.5")
    add("--tile-batch", type=int, help="tiles per forward pass; default: by device")
    add("--fast", action="store_true", help="no ensembling over mirror images and scales, step size 0.75")
    add(
        "--average",
        choices=("probabilities", "logits"),
        default="probabilities",
        help="what is averaged over folds, scales and models (logits: as nnU-Net); default: %(default)s",
    )


def _add_outputs(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("output and division of work").add_argument
    add("--save-probabilities", action="store_true", help="also write CASE_probabilities.npz")
    add("--save-uncertainty", action="store_true", help="also write CASE_entropy and CASE_disagreement as images")
    add("--preview", action="store_true", help="also write CASE_preview.png: slices with outlines")
    add("--statistics", action="store_true", help="also write volume, place, brightness and number of pieces of each label")
    add("--roi", nargs="+", metavar="LABEL", help="labels to keep, by name; the others become background")
    add("--continue", dest="keep", action="store_true", help="leave out cases whose segmentation exists")
    add("--part-id", type=int, default=0, help="which part of the cases, from 0; default: %(default)s")
    add("--num-parts", type=int, default=1, help="number of parts; default: %(default)s")


def _predict(arguments: argparse.Namespace) -> int:
    from configs.errors import collecting, raise_faults
    from configs.run_log import UNSEEDED, digests
    from inference.engine.assemble import check_roi
    from inference.prediction.case_list import list_cases
    from inference.prediction.command_options import check_input, extras_of, follow_selection, load_predictor, resolved
    from inference.prediction.outputs import plan_outputs
    from inference.prediction.record import FILE, record_of
    from preprocessing.formats.endings import stem_of
    from se_unet.cpu.allocator import keep_freed_memory

    postprocessing = follow_selection(arguments)
    faults: list[Fault] = []
    with collecting(faults):
        predictor = load_predictor(arguments)
        if predictor.device.type == "cpu":
            keep_freed_memory()
    with collecting(faults):
        check_input(arguments)
    raise_faults(faults)
    with collecting(faults):
        check_roi(predictor.description, arguments.roi)
    with collecting(faults):
        postprocessing.check(predictor.description)
    with collecting(faults):
        found = list_cases(arguments.input, predictor.description)
    raise_faults(faults)
    outputs = plan_outputs(found, arguments.output)
    names = list(found)[arguments.part_id :: arguments.num_parts]
    cases = {case: found[case] for case in names if not (arguments.keep and outputs[case].exists())}
    if len(cases) < len(names):
        logger.info("%d of %d cases are there already", len(names) - len(cases), len(names))
    folder = outputs[next(iter(found))].parent
    measured = {stem_of(outputs[case]) for case in found} if arguments.statistics else set()
    keep_log(folder, plan=digests(model / "plan.json" for model in arguments.model), seeds=UNSEEDED)
    if not cases:
        return _report({}, cases, folder, measured)
    extras = extras_of(arguments, postprocessing)
    record = record_of(predictor, resolved(arguments.model), arguments.checkpoint, extras)
    logger.info("%s", _describe(record, predictor, len(cases)))
    folder.mkdir(parents=True, exist_ok=True)
    record.write(folder / FILE)
    with _interruptible():
        failures = _segment(arguments, predictor, cases, outputs, extras)
    return _report(failures, cases, folder, measured)


def _segment(
    arguments: argparse.Namespace,
    predictor: "Predictor",
    cases: "Mapping[str, tuple[Path, ...]]",
    outputs: "Mapping[str, Path]",
    extras: "Extras",
) -> dict[str, Exception]:
    from inference.prediction.estimate import estimate_prediction
    from inference.prediction.predict_files import predict_cases

    if arguments.scheduler is not None:
        from inference.prediction.cluster import Recipe, predict_on_cluster
        from inference.prediction.command_options import options_of, resolved

        folds = None if arguments.folds == ["all"] else tuple(arguments.folds)
        recipe = Recipe(tuple(resolved(arguments.model)), arguments.device, folds, arguments.checkpoint, options_of(arguments))
        return predict_on_cluster(recipe, cases, outputs, extras, arguments.scheduler, Bar(arguments.quiet))
    if not arguments.quiet:
        estimate = estimate_prediction(predictor, cases, extras)
        logger.info("%s", estimate)
        if estimate.memory > estimate.free:
            logger.warning("this may be more memory than there is: fewer folds or scales take less")
    return predict_cases(predictor, cases, outputs, extras, Bar(arguments.quiet))


def _report(failures: dict[str, Exception], cases: "Mapping[str, object]", folder: Path, measured: set[str]) -> int:
    """Say how it went. Returns the exit code; where every case failed by its input, `InputError`."""
    from configs.errors import InputError, raise_faults
    from inference.prediction.statistics import gather_statistics

    if measured:
        gather_statistics(folder, measured)
    if failures and len(failures) == len(cases):
        raise_faults(fault for error in failures.values() if isinstance(error, InputError) for fault in error.faults)
    for case, error in failures.items():
        reasons = error.faults if isinstance(error, InputError) else [f"{type(error).__name__}: {error}"]
        logger.error("case `%s` failed: %s", case, "; ".join(map(str, reasons)))
    logger.info("%d of %d cases segmented, in %s", len(cases) - len(failures), len(cases), folder)
    return FAILED if failures else DONE


@contextmanager
def _interruptible() -> "Iterator[None]":
    """Take a scheduler's SIGTERM as the keyboard's interrupt, so that what is being written is finished or removed."""
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


def _describe(record: "PredictionRecord", predictor: "Predictor", cases: int) -> str:
    parts = []
    for model, loaded in zip(record.models, predictor.models, strict=True):
        members = f"{len(model.folds)} fold(s) x {len(model.scales)} scale(s) x {2 ** len(model.mirror_axes)} reflection(s)"
        parts.append(f"{members}, tiles of {' x '.join(map(str, loaded.network_plan.patch_size))}")
    return f"{cases} case(s) on {predictor.device}: {'; '.join(parts)}; step {record.step:g}"
