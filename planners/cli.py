"""The command se_plan_and_preprocess."""

import argparse
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from configs.cli import Bar, add_image_format, fill, keep_log, run

if TYPE_CHECKING:
    from configs.plan import Plan
    from planners.options import PlanningOptions


@dataclass(frozen=True)
class PlanCommand:
    """What se_plan_and_preprocess is asked to do."""

    dataset: Path  # folder of the dataset
    work: Path  # output folder, with one folder per dataset
    options: "PlanningOptions"  # overrides of the planner's rules
    splits: Path | None = None  # file with the cases of each fold; None takes that of the dataset, or makes folds later
    jobs: int | None = None  # number of processes; None chooses it by processors and memory
    scheduler: str | None = None  # address of the Dask scheduler whose workers do the work; None works on this machine
    plan_only: bool = False  # stop after the plan
    overwrite: bool = False  # preprocess all cases again
    quiet: bool = False  # show warnings and errors only


def main() -> int:
    """Run se_plan_and_preprocess and return its exit code."""
    return run(_parser(), _read, _plan_and_preprocess)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="se_plan_and_preprocess",
        description="Check a dataset, measure it, plan its networks, and preprocess its cases for training.",
    )
    add = parser.add_argument
    add("dataset", type=Path, metavar="DATASET", help="folder in nnU-Net's raw layout, or a Decathlon task folder")
    add("--work", type=Path, default=Path("se_work"), help="output folder (default: se_work)")
    add("--gpu-memory", type=float, metavar="GB", help="GPU memory available for training, in GB (default: 8; small 4, large 24)")
    add(
        "--network",
        dest="networks",
        nargs="+",
        metavar="NAME",
        help="networks to plan: se, baseline (default: both), wimmer2023, wimmer2023_baseline",
    )
    add(
        "--configurations",
        nargs="+",
        metavar="NAME",
        help="configurations to plan: 2d, 3d_lowres, 3d_fullres, 3d_cascade_fullres (default: all that suit the dataset)",
    )
    add("--size", metavar="NAME", help="size of the networks: small, medium, large with residual encoders (default: medium)")
    add(
        "--orientation",
        metavar="canonical",
        help="turn every image to RAS (default: planned; thick slices may need a frame of their own)",
    )
    add(
        "--normalisation",
        nargs="+",
        metavar="SCHEME",
        help="normalisation of each channel: ct, zscore, zscore_in_mask, rescale, rgb, none (default: by the channels' names)",
    )
    add("--spacing", nargs=3, type=float, metavar=("Z", "Y", "X"), help="voxel spacing in mm (default: planned)")
    add("--patch-size", nargs=3, type=int, metavar=("Z", "Y", "X"), help="patch size in voxels (default: planned)")
    add(
        "--scale-range",
        nargs=2,
        type=float,
        metavar=("LOW", "HIGH"),
        help="sizes of the anatomy to expect in new cases, as factors of the sizes in training, such as 0.5 2 (default: planned)",
    )
    add(
        "--num-scales",
        type=_number_or_word,
        metavar="N|spread",
        help="size of the scale group of se; `spread` chooses it by the spread of structure sizes (default: 1, no group)",
    )
    add("--scale-step", type=float, metavar="F", help="ratio of neighbouring scales of se (default: 1.26)")
    add(
        "--from-nnunet-plans",
        dest="nnunet_plans",
        type=Path,
        metavar="FILE",
        help="plans file of nnU-Net, whose grids, patches and networks are taken instead of planned ones (network nnunet)",
    )
    add(
        "--splits",
        type=Path,
        metavar="FILE",
        help="cases of each fold, such as nnU-Net's splits_final.json (default: that file in DATASET, or five folds)",
    )
    add("--jobs", type=int, metavar="N", help="number of processes (default: one per processor if memory suffices)")
    add_image_format(parser)
    add("--scheduler", metavar="ADDRESS", help="address of a Dask scheduler whose workers do the work, such as tcp://host:8786")
    add("--plan-only", action="store_true", help="stop after the plan")
    add("--overwrite", action="store_true", help="preprocess all cases again, also those that are up to date")
    return parser


def _read(given: argparse.Namespace) -> PlanCommand:
    from planners.options import PlanningOptions
    from preprocessing.formats.registry import use_format

    use_format(given.image_format)
    return fill(PlanCommand, given, options=fill(PlanningOptions, given))


def _number_or_word(text: str) -> int | str:
    return int(text) if text.lstrip("-").isdecimal() else text


def _plan_and_preprocess(command: PlanCommand) -> None:
    from configs.folders import DatasetFolder, dataset_name
    from configs.run_log import digest
    from planners.run import plan_and_preprocess

    folder = command.work / dataset_name(command.dataset)
    keep_log(folder)
    plan = plan_and_preprocess(
        command.dataset,
        command.work,
        command.options,
        splits=command.splits,
        jobs=command.jobs,
        plan_only=command.plan_only,
        overwrite=command.overwrite,
        progress=Bar(command.quiet),
        scheduler=command.scheduler,
    )
    file = DatasetFolder(folder).plan
    logging.getLogger(__name__).debug("%s: SHA-256 %s", file, digest(file))
    if not command.quiet:
        _print_plan(plan)
        print(f"\nThe plan and the preprocessed cases are in {command.work / plan.dataset.name}")


def _print_plan(plan: "Plan") -> None:
    for name, configuration in plan.configurations.items():
        print(f"\n{plan.dataset.name}, {name}")
        for reason in configuration.reasons.values():
            print(f"  {reason}")
        for network_name, network in configuration.networks.items():
            print(f"  {network_name}")
            for reason in network.reasons.values():
                print(f"    {reason}")
