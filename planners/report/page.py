"""Write the planning report as one self-contained HTML page without scripts or external files, with all names escaped."""

import math
from collections.abc import Sequence
from pathlib import Path

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
from preprocessing.pages.figures import in_figures, label_colours
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
            channels=list(zip(description.channels, fingerprint.intensities, strict=False)),
            geometry=geometry_figure(fingerprint, plan),
            intensities=intensity_figure(fingerprint, description.channels),
            sizes=label_figure(fingerprint),
            widest=widest_label(fingerprint) if fingerprint.size_spread else None,
            labels=_label_rows(fingerprint, plan),
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


def _label_rows(fingerprint: Fingerprint, plan: Plan) -> list[dict[str, str]]:
    """Return one row of numbers for each label."""
    finest = min(math.prod(configuration.spacing) for configuration in plan.configurations.values())
    rows = []
    for label in plan.dataset.foreground:
        values = plan.dataset.labels[label]
        row = {"label": label, "values": str(values) if isinstance(values, int) else ", ".join(map(str, values))}
        found = volumes(fingerprint, label)
        row["cases"] = f"{len(found)} of {len(fingerprint.cases)}"
        row |= dict.fromkeys(("volume", "structures", "size", "fewest"), "-")
        if len(found):
            spread = fingerprint.size_spread[label]
            row["volume"] = _range(*np.quantile(found, (0.1, 0.5, 0.9)))
            row["structures"] = f"{len(diameters(fingerprint, label)[0]) / len(found):.3g}"
            row["size"] = _range(spread.q10, spread.q50, spread.q90)
            row["fewest"] = f"{found.min() / finest:,.0f}"
        rows.append(row)
    return rows


def _range(low: float, middle: float, high: float) -> str:
    """Return the middle value, followed by the range in brackets if there is one."""
    return in_figures(middle) if low == high else f"{in_figures(middle)} ({in_figures(low)} to {in_figures(high)})"
