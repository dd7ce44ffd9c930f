"""The command se_plan_and_preprocess."""

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.cli import Bar, keep_log, run

if TYPE_CHECKING:
    from configs.plan import Plan


def main() -> int:
    """Run the command. Returns its exit code."""
    return run(_plan_and_preprocess, _parser())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="se_plan_and_preprocess",
        description="Check a dataset, measure it, plan its networks, and prepare its cases for training.",
    )
    parser.add_argument("dataset", type=Path, metavar="DATASET", help="folder in nnU-Net's raw layout or a Decathlon task folder")
    parser.add_argument("--work", type=Path, default=Path("se_work"), help="folder for all that is made (default: se_work)")
    parser.add_argument("--gpu-memory", type=float, metavar="GB", help="that training may take (default: 8; small 4, large 24)")
    parser.add_argument("--network", nargs="+", metavar="NAME", help="networks to plan: se, baseline (default: both)")
    parser.add_argument(
        "--configurations",
        nargs="+",
        metavar="NAME",
        help="2d, 3d_lowres, 3d_fullres, 3d_cascade_fullres (default: all that suit)",
    )
    parser.add_argument(
        "--size", metavar="NAME", help="of the networks: small, medium, large with residual encoders (default: medium)"
    )
    parser.add_argument(
        "--spacing", nargs=3, type=float, metavar=("Z", "Y", "X"), help="mm of the grid, instead of the planned one"
    )
    parser.add_argument("--patch-size", nargs=3, type=int, metavar=("Z", "Y", "X"), help="voxels, instead of the planned patch")
    parser.add_argument(
        "--num-scales",
        type=_number_or_word,
        metavar="N|spread",
        help="size of the scale group of se, or `spread`: by the spread of structure sizes (default: 1, no group)",
    )
    parser.add_argument("--scale-step", type=float, metavar="F", help="ratio of neighbouring scales of se (default: 1.26)")
    parser.add_argument("--jobs", type=int, metavar="N", help="processes (default: one for each processor, if memory suffices)")
    parser.add_argument(
        "--scheduler", metavar="ADDRESS", help="work on the Dask cluster of this scheduler, such as tcp://host:8786"
    )
    parser.add_argument("--plan-only", action="store_true", help="stop after the plan")
    parser.add_argument("--overwrite", action="store_true", help="prepare all cases anew, even those that are up to date")
    return parser


def _plan_and_preprocess(arguments: argparse.Namespace) -> None:
    from configs.folders import dataset_name
    from configs.run_log import UNSEEDED, digest
    from planners.options import PlanningOptions
    from planners.run import plan_and_preprocess

    folder = arguments.work / dataset_name(arguments.dataset)
    keep_log(folder, seeds=UNSEEDED)

    given: dict[str, Any] = {
        "networks": arguments.network,
        "configurations": arguments.configurations,
        "size": arguments.size,
        "gpu_memory": arguments.gpu_memory,
        "spacing": arguments.spacing,
        "patch_size": arguments.patch_size,
        "num_scales": arguments.num_scales,
        "scale_step": arguments.scale_step,
    }
    options = PlanningOptions(**{name: _tuple(value) for name, value in given.items() if value is not None})
    plan = plan_and_preprocess(
        arguments.dataset,
        arguments.work,
        options,
        jobs=arguments.jobs,
        plan_only=arguments.plan_only,
        overwrite=arguments.overwrite,
        progress=Bar(arguments.quiet),
        scheduler=arguments.scheduler,
    )
    logging.getLogger(__name__).debug("%s: SHA-256 %s", folder / "plan.json", digest(folder / "plan.json"))
    if not arguments.quiet:
        _print_plan(plan)
        print(f"\nPlan and cases are in {arguments.work / plan.dataset.name}")


def _number_or_word(text: str) -> int | str:
    return int(text) if text.lstrip("-").isdecimal() else text


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _print_plan(plan: "Plan") -> None:
    for name, configuration in plan.configurations.items():
        print(f"\n{plan.dataset.name}, {name}")
        for reason in configuration.reasons.values():
            print(f"  {reason}")
        for network_name, network in configuration.networks.items():
            print(f"  {network_name}")
            for reason in network.reasons.values():
                print(f"    {reason}")
