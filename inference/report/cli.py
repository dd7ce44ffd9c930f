"""The command se_report."""

import argparse
from pathlib import Path

from configs.cli import Bar, keep_log, run


def main() -> int:
    """Run se_report. Returns the exit code."""
    return run(_report, _parser())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="se_report",
        description="Write a page on a trained model: plan, training, scores with intervals, best and worst cases, sizes. "
        "For a folder of several models, also a page that sets them side by side.",
    )
    add = parser.add_argument
    add(
        "folder",
        type=Path,
        metavar="MODEL_OR_WORK",
        help="such as se_work/DATASET/models/3d_fullres_se, se_work/DATASET or se_work",
    )
    add("-o", "--output", type=Path, help="page to write; default: report.html in a model's folder, models.html in another")
    add("--worst", type=int, default=3, metavar="N", help="worst cases with all their slices; default: %(default)s")
    add(
        "--equivariance",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="measure how scale-equivariant the network is, once for its weights; default: yes",
    )
    add("--device", help="for that: cpu, cuda, cuda:1, mps; default: the best there is")
    return parser


def _report(arguments: argparse.Namespace) -> None:
    from configs.errors import Fault, InputError
    from configs.run_log import UNSEEDED, digests
    from inference.report.run import ReportOptions, find_models, is_model, write_report

    if arguments.worst < 0:
        raise InputError(Fault(f"--worst {arguments.worst}", "the number must not be negative", "Give 0 or more"))
    models = [arguments.folder] if is_model(arguments.folder) else find_models(arguments.folder)
    keep_log(arguments.folder, plan=digests(model / "plan.json" for model in models), seeds=UNSEEDED)
    options = ReportOptions(worst=arguments.worst, equivariance=arguments.equivariance, device=arguments.device)
    print(write_report(arguments.folder, arguments.output, options, Bar(arguments.quiet)))
