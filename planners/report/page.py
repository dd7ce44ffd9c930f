"""Write the planning report as one self-contained HTML page without scripts or external files, with all names escaped."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from configs.files import write_text
from configs.fingerprint import Fingerprint
from configs.folders import DatasetFolder
from configs.plan import Plan
from planners.report.distributions import geometry_figure, intensity_figure
from planners.report.findings import CHECKS, find_all, named
from planners.report.median_case import Slices, load_slices
from planners.report.patch_figure import patch_figure
from planners.report.structures import diameters, label_figure, scale_figure, volumes, widest_label
from preprocessing.dataset.raw import RawDataset
from preprocessing.dataset.splits import Split, find_splits
from preprocessing.pages.figures import label_colours
from preprocessing.pages.rendering import page_environment

FILE = "report.html"


def write_planning_report(folder: Path, dataset: RawDataset, fingerprint: Fingerprint, plan: Plan) -> Path:
    """Write `report.html` into the dataset's folder under WORK, and return its path. Reads one case to draw the plan over it.

    The fingerprint is measured in the plan's orientation.

    Raises:
        InputError: the case or `splits.json` cannot be read.
    """
    folds = find_splits(DatasetFolder(folder).splits, list(fingerprint.cases))
    slices = load_slices(dataset, fingerprint, plan)
    write_text(folder / FILE, report_page(fingerprint, plan, folds, slices))
    return folder / FILE


def report_page(fingerprint: Fingerprint, plan: Plan, folds: Sequence[Split], slices: Slices) -> str:
    """Return the page as HTML. The same input gives the same text."""
    description, cases = plan.dataset, fingerprint.cases.values()
    networks = {(name, network): part for name, one in plan.configurations.items() for network, part in one.networks.items()}
    return (
        page_environment("planners.report")
        .get_template("page.html.j2")
        .render(
            plan=plan,
            fingerprint=fingerprint,
            slices=slices,
            findings=find_all(fingerprint, plan, folds),
            checks=CHECKS,
            named=named,
            spacings=np.array([case.spacing for case in cases]),
            shapes=np.array([case.shape_after_crop for case in cases]),
            channels=list(zip(description.channel_titles, fingerprint.intensities, strict=False)),
            geometry=geometry_figure(fingerprint, plan),
            intensities=intensity_figure(fingerprint, description.channel_titles),
            sizes=label_figure(fingerprint),
            widest=widest_label(fingerprint) if fingerprint.size_spread else None,
            numbers=_numbers(fingerprint, plan),
            legend=list(zip(description.foreground, label_colours(len(description.foreground)), strict=True)),
            patches={
                name: patch_figure(slices, configuration, description, f"patch-{name}")
                for name, configuration in plan.configurations.items()
            },
            scales={
                place: scale_figure(fingerprint, planned.network.scale_group, f"scales-{'-'.join(place)}")
                for place, planned in networks.items()
            },
        )
    )


def _numbers(fingerprint: Fingerprint, plan: Plan) -> dict[str, dict[str, Any]]:
    """Return the number of cases that have each label, and further numbers of labels that some case has."""
    finest = min(math.prod(configuration.spacing) for configuration in plan.configurations.values())
    numbers: dict[str, dict[str, Any]] = {}
    for label in plan.dataset.foreground:
        found = volumes(fingerprint, label)
        numbers[label] = {"cases": len(found)}
        if len(found):
            spread = fingerprint.size_spread[label]
            numbers[label] |= {
                "volume": np.quantile(found, (0.1, 0.5, 0.9)),
                "structures": len(diameters(fingerprint, label)[0]) / len(found),
                "size": (spread.q10, spread.q50, spread.q90),
                "fewest": found.min() / finest,
            }
    return numbers
