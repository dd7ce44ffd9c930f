"""The command se_run."""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from configs.cli import DONE, FAILED, Bar, add_image_format, fill, keep_log, parse_settings, run

if TYPE_CHECKING:
    from planners.options import PlanningOptions
    from trainers.pipeline.options import RunOptions
    from trainers.pipeline.run import RunResult


@dataclass(frozen=True)
class RunCommand:
    """What se_run is asked to do."""

    dataset: Path  # folder of the dataset
    work: Path  # output folder, with one folder per dataset
    options: "RunOptions"  # what is trained, for how long and where
    planning: "PlanningOptions | None" = None  # overrides of the planner's rules
    print_jobs: bool = False  # print the trainings as a SLURM script instead of running them
    quiet: bool = False  # show warnings and errors only


def main() -> int:
    """Run se_run and return its exit code."""
    return run(_parser(), _read, _run)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="se_run",
        description="Go all the way from a dataset to a model: check, plan, preprocess, train, select, report and bundle. "
        "What will be trained, and until when, is told before it starts. Run it again after an interruption, and it goes on.",
    )
    add = parser.add_argument
    add("dataset", type=Path, metavar="DATASET", help="folder in nnU-Net's raw layout, or a Decathlon task folder")
    add("--work", type=Path, default=Path("se_work"), help="output folder (default: se_work)")
    add(
        "--hours",
        type=float,
        metavar="H",
        help="time for everything, into which networks, folds and epochs are fitted (default: 8 on a CPU)",
    )
    add(
        "--preset", help="default, quick, adamw, finetune, or a JSON file of settings (default: quick on a CPU, default on a GPU)"
    )
    add("--set", action="extend", nargs="+", default=[], metavar="KEY=VALUE", help="any training setting, such as epochs=50")
    add("--networks", nargs="+", metavar="NAME", help="networks to train (default: se and baseline, or what fits into the time)")
    add("--configurations", nargs="+", metavar="NAME", help="configurations to train (default: full resolution only)")
    add(
        "--folds",
        nargs="+",
        type=_fold,
        metavar="N",
        help="folds to train, or all (default: all five, or what fits into the time)",
    )
    add(
        "--devices",
        nargs="+",
        metavar="NAME",
        help="devices that train folds side by side (default: all GPUs, or else the CPU as often as processors and memory allow)",
    )
    add("--scheduler", metavar="ADDRESS", help="address of a Dask scheduler whose workers preprocess and train")
    add("--gpu-memory", type=float, metavar="GB", help="GPU memory to plan for, in GB (default: 8)")
    add("--splits", type=Path, metavar="FILE", help="cases of each fold, such as nnU-Net's splits_final.json")
    add(
        "--jobs",
        type=int,
        metavar="N",
        help="number of processes that preprocess (default: one per processor if memory suffices)",
    )
    add("--restart", action="store_true", help="make a new schedule and train again what was trained")
    add("--print-jobs", action="store_true", help="plan and preprocess, then print the trainings as a script for sbatch")
    add_image_format(parser)
    return parser


def _fold(text: str) -> int | str:
    return int(text) if text.isdecimal() else text


def _read(given: argparse.Namespace) -> RunCommand:
    from planners.options import PlanningOptions
    from preprocessing.formats.registry import use_format
    from trainers.pipeline.options import RunOptions

    use_format(given.image_format)
    options = fill(RunOptions, given, settings=parse_settings(given.set))
    planning = None if given.gpu_memory is None else PlanningOptions(gpu_memory=given.gpu_memory)
    return fill(RunCommand, given, options=options, planning=planning)


def _run(command: RunCommand) -> int:
    from configs.folders import DatasetFolder, dataset_name
    from se_unet.cpu.allocator import keep_freed_memory
    from trainers.interruption import TrainingInterruptedError
    from trainers.pipeline.run import run_dataset

    sys.path.insert(0, "")  # custom parts may lie in the working directory, as with `python -m`
    folder = DatasetFolder(command.work / dataset_name(command.dataset))
    keep_log(folder.path, plan=[folder.plan] if folder.plan.is_file() else [])
    if command.print_jobs:
        return _print_jobs(command)
    keep_freed_memory()
    try:
        result = run_dataset(command.dataset, command.work, command.options, command.planning, Bar(command.quiet))
    except TrainingInterruptedError as interruption:
        print(f"se_run: {interruption}", file=sys.stderr)
        return 128 + interruption.signal_number  # the shell's convention
    return _report(result, command.quiet)


def _report(result: "RunResult", quiet: bool) -> int:
    for name, reason in result.failures.items():
        print(f"se_run: {name} failed: {reason}", file=sys.stderr)
    if not quiet:
        _print_result(result)
    return FAILED if result.failures else DONE


def _print_result(result: "RunResult") -> None:
    model = f"--selection {result.selection}" if result.selection else f"-m {result.models[0]}"
    print(f"\nAll results: {result.page}")
    print(f"To segment images: se_predict -i IMAGES -o OUTPUT {model}")
    for bundle in result.bundles:
        print(f"To share the model: {bundle}")


def _print_jobs(command: RunCommand) -> int:
    from trainers.pipeline.jobs import write_jobs

    again = ["se_run", str(command.dataset.resolve()), "--work", str(command.work.resolve())]
    print(write_jobs(command.dataset, command.work, command.options, command.planning, again, Bar(command.quiet)), end="")
    return DONE


if __name__ == "__main__":
    sys.exit(main())
