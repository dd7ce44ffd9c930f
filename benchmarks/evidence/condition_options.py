"""What a comparison of trained networks is asked on the command line, and the results that its runs leave."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import torch

from benchmarks.common.tables import text_table, write_csv
from benchmarks.evidence.conditions import NETWORKS, PEER, Condition, Recipe, test_cases, trained
from configs.files import read_json, write_json
from preprocessing.dataset.raw import CaseFiles
from se_unet.cpu.allocator import keep_freed_memory

Result = dict[str, Any]
Measure = Callable[[Path, Mapping[str, CaseFiles]], Any]  # of a model's folder and test cases


def parser_of(description: str | None) -> argparse.ArgumentParser:
    """Options that all comparisons share."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path, help="raw")
    parser.add_argument("work", type=Path, help="trainings are kept here, and gone on with")
    parser.add_argument("output", type=Path, help="folder of results, one JSON for each run")
    parser.add_argument("--networks", nargs="*", choices=NETWORKS, default=[], help="to run; default: none, only the table")
    parser.add_argument("--one-size", action="store_true", help="train without random scaling")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--features", type=int, default=8, help="of the baseline's first stage")
    parser.add_argument("--preset", default="quick", help="of our trainings")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--peer", type=Path, help=f"Python of an environment with {PEER}")
    parser.add_argument(
        "--spacing", nargs=3, type=float, metavar=("Z", "Y", "X"), help="mm of our networks' grid; default: as planned"
    )
    parser.add_argument("--most", type=int, help="measure on the first so many test cases")
    parser.add_argument("--csv", type=Path, help="write the table of all finished runs")
    parser.add_argument("--figure", type=Path, help="draw them into this SVG")
    return parser


def recipe_of(arguments: argparse.Namespace) -> Recipe:
    """What all networks share; limits this process to the threads that were asked for."""
    torch.set_num_threads(arguments.threads)
    keep_freed_memory()
    for folder in (arguments.work, arguments.output):
        folder.mkdir(parents=True, exist_ok=True)
    names = ("dataset", "work", "steps", "batch", "features", "preset", "threads", "peer")
    spacing = tuple(arguments.spacing) if arguments.spacing else None
    return Recipe(**{name: getattr(arguments, name) for name in names}, spacing=spacing)


def run_missing(arguments: argparse.Namespace, sizes: list[int], dice: Measure) -> list[Result]:
    """Train and measure each condition that has no result yet, seeds in the outermost turn; return all results of the folder."""
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
    """Print the table, and write it and its figure where asked."""
    print(text_table(rows, columns))
    if arguments.csv:
        write_csv(rows, arguments.csv)
    if arguments.figure:
        draw(rows, arguments.figure)


def label_of(result: Result) -> str:
    """The network, and how it was trained."""
    return str(result["network"]) + ("" if result["scaling"] else ", one size")
