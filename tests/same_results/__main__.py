"""The program: record everything into one JSON file, and compare it with an earlier one."""

import argparse
import json
import logging
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from tests.same_results.commands import ROOT, Commands
from tests.same_results.comparing import differences, expected
from tests.same_results.digests import Json
from tests.same_results.networks import one_thread, record_planned_networks, record_small_networks
from tests.same_results.planning import record_datasets, record_other_plans
from tests.same_results.predicting import record_choices, record_other_predictions, record_predictions
from tests.same_results.training import record_cascade, record_scales, record_trainings

SHOWN = 100
logger = logging.getLogger("same_results")


def main() -> int:
    """Record, and compare where a former recording is given. Returns 1 where something differs."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    arguments = _parser().parse_args()
    if arguments.work is not None:
        record(arguments.work.resolve(), arguments.data.resolve(), arguments.output)
    if arguments.against is None:
        return 0
    return compare(arguments.against, arguments.output, arguments.expect)


def record(work: Path, data: Path, output: Path) -> None:
    """Record everything, with the processor time of each part in seconds. The file is written after each part.

    Args:
        work: an empty or new folder.
        data: folder of the datasets.
        output: JSON file to write.
    """
    work.mkdir(parents=True, exist_ok=True)
    if any(work.iterdir()):
        raise SystemExit(f"{work} is not empty; give a new folder")
    commands = Commands(work)
    commands.check_source()
    results: dict[str, Json] = {}
    seconds: dict[str, float] = {}
    with one_thread():
        for name, part in _parts(commands, data, work).items():
            start = _processor_seconds()
            results[name] = part()
            seconds[name] = round(_processor_seconds() - start, 1)
            logger.info("%s: %.0f s", name, seconds[name])
            output.write_text(json.dumps({"about": _about(seconds), "results": results}, indent=1) + "\n", encoding="utf-8")


def compare(before: Path, after: Path, patterns: list[str]) -> int:
    """Print what differs between two recordings. Returns 1 where something differs that no pattern expects."""
    first, second = (json.loads(path.read_text(encoding="utf-8")) for path in (before, after))
    for name in ("processor", "versions"):
        if first["about"][name] != second["about"][name]:
            logger.warning("The recordings are of another %s: %s and %s", name, first["about"][name], second["about"][name])
    found = differences(first["results"], second["results"])
    foreseen = expected(found, patterns)
    unforeseen = [one for one in found if one not in foreseen]
    for one in unforeseen[:SHOWN]:
        logger.info("%s", one)
    logger.info("%d values differ, %d others differ as expected", len(unforeseen), len(foreseen))
    return 1 if unforeseen else 0


def _parts(commands: Commands, data: Path, work: Path) -> dict[str, Callable[[], Json]]:
    """Name of each part -> what records it. Later parts use the files of earlier ones."""
    few, scales, cascade = work / "few", work / "scales", work / "cascade"
    return {
        "small networks": record_small_networks,
        "datasets": lambda: record_datasets(commands, data, work / "datasets"),
        "other plans": lambda: record_other_plans(commands, data, work / "other_plans"),
        "planned networks": lambda: _planned_networks(work),
        "trainings": lambda: record_trainings(commands, data, few),
        "scales": lambda: record_scales(commands, data, scales),
        "cascade": lambda: record_cascade(commands, data, cascade),
        "predictions": lambda: record_predictions(commands, data, few),
        "other predictions": lambda: record_other_predictions(commands, data, scales, cascade),
        "choices": lambda: record_choices(commands, few),
    }


def _planned_networks(work: Path) -> Json:
    plans = [*sorted((work / "datasets").glob("*/plan.json")), *sorted((work / "other_plans").glob("*/*/plan.json"))]
    return {str(plan.parent.relative_to(work)): record_planned_networks(plan) for plan in plans}


def _about(seconds: dict[str, float]) -> dict[str, Json]:
    """What is not compared: where and when this was recorded, and how long it took."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=40"]
    commit = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    libraries = ("torch", "numpy", "scipy", "nibabel", "SimpleITK", "scikit-image", "batchgenerators", "blosc2")
    versions = {"python": platform.python_version()} | {name: version(name) for name in libraries}
    return {"commit": commit, "processor": _processor(), "versions": versions, "seconds": seconds}


def _processor_seconds() -> float:
    """Processor time of this program and of the commands that have ended, which does not depend on what else is running."""
    return sum(os.times()[:4])


def _processor() -> str:
    file = Path("/proc/cpuinfo")
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.same_results", description="Record what the software computes.")
    parser.add_argument("work", type=Path, nargs="?", metavar="WORK", help="new folder for everything that is computed")
    parser.add_argument("output", type=Path, metavar="RECORDING", help="JSON file to write, or to compare where WORK is left out")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="folder of the datasets")
    parser.add_argument("--against", type=Path, metavar="RECORDING", help="earlier recording to compare with")
    parser.add_argument(
        "--expect", nargs="+", default=[], metavar="PATTERN", help="shell patterns of paths that may differ, such as '*/hd95'"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
