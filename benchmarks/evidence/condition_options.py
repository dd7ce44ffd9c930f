"""Options of the comparisons of trained networks, and the results of their runs."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import torch

from benchmarks.common.tables import show_table
from benchmarks.evidence.conditions import NETWORKS, PEER, Condition, Recipe, test_cases, trained
from configs.files import read_json, write_json
from preprocessing.dataset.raw import CaseFiles
from se_unet.cpu.allocator import keep_freed_memory

Result = dict[str, Any]
Measure = Callable[[Path, Mapping[str, CaseFiles]], Any]  # of a model's folder and test cases


def parser_of(description: str | None) -> argparse.ArgumentParser:
    """Add the options that all comparisons share."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path, help="folder of the raw dataset")
    parser.add_argument("work", type=Path, help="folder of the trainings, which later runs continue")
    parser.add_argument("output", type=Path, help="folder of the results, one JSON file for each run")
    parser.add_argument(
        "--networks",
        nargs="*",
        choices=NETWORKS,
        default=[],
        help="networks to train; default: none, which only prints the table",
    )
    parser.add_argument("--one-size", action="store_true", help="train without random scaling")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--features", type=int, default=8, help="features of the baseline's first stage; default: %(default)s")
    parser.add_argument("--preset", default="quick", help="preset of our trainings; default: %(default)s")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--peer", type=Path, help=f"path to the Python of an environment with {PEER}")
    parser.add_argument(
        "--spacing", nargs=3, type=float, metavar=("Z", "Y", "X"), help="spacing of our networks' grid in mm; default: as planned"
    )
    parser.add_argument("--most", type=int, help="largest number of test cases; default: all")
    parser.add_argument("--csv", type=Path, help="CSV file for the table of all finished runs")
    parser.add_argument("--figure", type=Path, help="SVG file for the figure of all finished runs")
    return parser


def recipe_of(arguments: argparse.Namespace) -> Recipe:
    """Return the settings that all networks share. Limits this process to the given number of threads."""
    torch.set_num_threads(arguments.threads)
    keep_freed_memory()
    for folder in (arguments.work, arguments.output):
        folder.mkdir(parents=True, exist_ok=True)
    names = ("dataset", "work", "steps", "batch", "features", "preset", "threads", "peer")
    spacing = tuple(arguments.spacing) if arguments.spacing else None
    return Recipe(**{name: getattr(arguments, name) for name in names}, spacing=spacing)


def run_missing(arguments: argparse.Namespace, sizes: list[int], dice: Measure) -> list[Result]:
    """Train and measure each condition without a result, one seed after the other. Returns all results of the folder."""
    recipe = recipe_of(arguments)
    for seed, size, network in product(arguments.seeds, sizes, arguments.networks):
        condition = Condition(network, not arguments.one_size, size, seed)
        path = arguments.output / f"{condition.name}_{recipe.steps}.json"
        if path.is_file():
            continue
        cases = dict(list(test_cases(recipe.dataset, size, seed).items())[: arguments.most])
        facts = {"network": network, "scaling": condition.scaling, "cases": size, "seed": seed, "steps": recipe.steps}
        facts |= {
            "batch": recipe.batch,
            "features": recipe.features,
            "preset": recipe.preset,
            "spacing": recipe.spacing,
            "tested": len(cases),
        }
        write_json(path, facts | {"dice": dice(trained(condition, recipe), cases)})
        print(f"{path.stem}: done", flush=True)
    return [read_json(path) for path in sorted(arguments.output.glob("*.json"))]


def show(
    arguments: argparse.Namespace,
    rows: Sequence[Result],
    columns: Mapping[str, str],
    draw: Callable[[Sequence[Result], Path], None],
) -> None:
    """Print the table, and write table and figure on request."""
    show_table(rows, columns, arguments.csv)
    if arguments.figure:
        draw(rows, arguments.figure)


def label_of(result: Result) -> str:
    """The network, and how it was trained."""
    return str(result["network"]) + ("" if result["scaling"] else ", one size")
