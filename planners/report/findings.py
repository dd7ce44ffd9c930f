"""Find what may be wrong with data or plan before training."""

import math
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from configs.errors import Fault, counted, times
from configs.fingerprint import Fingerprint
from configs.plan import ConfigurationPlan, Plan
from planners.rules.grid import prepared_shape
from planners.rules.mirroring import choose_mirror_axes
from planners.rules.orientation import patient_axes
from preprocessing.dataset.splits import Split

_FEWEST_VOXELS = 27  # a cube of three voxels, the size of one kernel
_UNLIKE = 2.0  # ratio of a case's spacing to the median above which it is unusual
_LARGE = 16.0  # ratio of a case's voxels at the planned spacing to the median above which it is named
_NAMED = 6  # largest number of cases or labels that are listed by name
_QUOTED = 3  # largest number of warnings of one kind that are quoted


@dataclass(frozen=True)
class Finding:
    """A warning of the report."""

    title: str  # summary in a few words
    text: str  # explanation with numbers and a remedy


CHECKS = (
    "labels that never occur",
    "labels absent from a fold",
    "labels smaller than 27 voxels at the planned spacing",
    "labels that differ only in their side, with mirroring along this axis",
    "constant images, empty label files and labels outside the image",
    "cases with an unusual spacing, or many times the median size",
)


def find_all(fingerprint: Fingerprint, plan: Plan, folds: Sequence[Split]) -> list[Finding]:
    """Return all findings."""
    findings = [
        *_never_present(fingerprint, plan),
        *_absent_from_folds(fingerprint, plan, folds),
        *_mirrored_sides(fingerprint, plan),
        *_of_validation(fingerprint.warnings),
        *_unusual_spacing(fingerprint),
        *_unusual_size(fingerprint, plan),
    ]
    small: dict[Finding, list[str]] = {}
    for name, configuration in plan.configurations.items():
        for finding in _small(fingerprint, configuration):
            small.setdefault(finding, []).append(name)
    return findings + [Finding(f"{finding.title} in {named(names)}", finding.text) for finding, names in small.items()]


def find_early(fingerprint: Fingerprint, plan: Plan) -> list[Finding]:
    """Return the findings that a user should know before time and memory are spent on preprocessing."""
    return [*_never_present(fingerprint, plan), *_unusual_spacing(fingerprint), *_unusual_size(fingerprint, plan)]


def named(names: Sequence[str]) -> str:
    """Return names as a list within a sentence, shortened to the first ones."""
    shown = list(names[:_NAMED])
    if len(names) > _NAMED:
        return f"{', '.join(shown)} and {len(names) - _NAMED} more"
    return " and ".join(filter(None, (", ".join(shown[:-1]), shown[-1])))


def _present(fingerprint: Fingerprint, label: str) -> set[str]:
    return {case for case, found in fingerprint.cases.items() if label in found.labels and found.labels[label].voxels}


def _never_present(fingerprint: Fingerprint, plan: Plan) -> list[Finding]:
    absent = [label for label in plan.dataset.foreground if not _present(fingerprint, label)]
    if not absent:
        return []
    text = f"No case has {named(absent)}, so no network can learn it. Check the label files and `dataset.json`."
    return [Finding(f"{counted(len(absent), 'label')} never present", text)]


def _absent_from_folds(fingerprint: Fingerprint, plan: Plan, folds: Sequence[Split]) -> list[Finding]:
    if not folds:
        text = "One case cannot be split into training and validation. Train with --fold all, without cross-validation."
        return [Finding("No folds", text)]
    lacking: dict[tuple[str, tuple[int, ...]], list[str]] = {}
    for label in plan.dataset.foreground:
        present = _present(fingerprint, label)
        for part in ("training", "validation"):
            without = tuple(index for index, fold in enumerate(folds) if present.isdisjoint(getattr(fold, part)))
            if present and without:
                lacking.setdefault((part, without), []).append(label)
    consequence = {"training": "these folds cannot learn it", "validation": "these folds cannot validate it"}
    return [
        Finding(
            f"{counted(len(labels), 'label')} absent from {part} in {counted(len(without), 'fold')}",
            f"No {part} case of fold {named([str(index) for index in without])} has {named(labels)}: {consequence[part]}. "
            "Edit the splits file to distribute the cases that have it.",
        )
        for (part, without), labels in lacking.items()
    ]


def _small(fingerprint: Fingerprint, configuration: ConfigurationPlan) -> list[Finding]:
    cases = fingerprint.cases
    voxel = {case: math.prod(configuration.grid_spacing(found.spacing)) for case, found in cases.items()}
    small: list[str] = []
    for label in fingerprint.size_spread:
        volumes = [cases[case].labels[label].volume / voxel[case] for case in _present(fingerprint, label)]
        few = [volume for volume in volumes if volume < _FEWEST_VOXELS]
        if few:
            small.append(
                f"{label} ({len(few)} of {counted(len(volumes), 'case')}, the smallest has {counted(round(min(few)), 'voxel')})"
            )
    if not small:
        return []
    text = (
        f"At {times(configuration.spacing)} mm, these labels have fewer than {_FEWEST_VOXELS} voxels in some cases: {named(small)}. Such "
        "small structures are easily missed; a finer --spacing gives them more voxels."
    )
    return [Finding(f"{counted(len(small), 'label')} with very few voxels", text)]


def _mirrored_sides(fingerprint: Fingerprint, plan: Plan) -> list[Finding]:
    planned = choose_mirror_axes(plan.dataset.foreground, patient_axes(plan.orientation, fingerprint.cases))
    mirrored = [
        f"{network} in {name}"
        for name, configuration in plan.configurations.items()
        for network, of_network in configuration.networks.items()
        if not set(of_network.mirror_axes) <= set(planned.value)
    ]
    if not mirrored:
        return []
    text = f"{named(mirrored)} mirrors further axes than the planner would, and cannot distinguish labels there. {planned.reason}"
    return [Finding("Labels that differ only in their side, with mirroring along this axis", text)]


def _of_validation(warnings: Sequence[Fault]) -> list[Finding]:
    """Group warnings of the same kind, which differ only in numbers."""
    groups: dict[tuple[str, str], list[Fault]] = {}
    for warning in warnings:
        groups.setdefault((re.sub(r"-?\d+(\.\d+)?", "#", warning.problem), warning.remedy), []).append(warning)
    findings = []
    for (_, remedy), alike in groups.items():
        if len(alike) == 1:
            title, text = "To check", f"{alike[0].where}: {alike[0].problem}. {remedy}."
        elif len({warning.problem for warning in alike}) == 1:
            title = f"To check in {len(alike)} places"
            text = f"{named([warning.where for warning in alike])}: {alike[0].problem}. {remedy}."
        else:
            title = f"To check in {len(alike)} places"
            text = "; ".join(f"{warning.where}: {warning.problem}" for warning in alike[:_QUOTED])
            text += f"; and {len(alike) - _QUOTED} more like these. {remedy}." if len(alike) > _QUOTED else f". {remedy}."
        findings.append(Finding(title, text))
    return findings


def _unusual_spacing(fingerprint: Fingerprint) -> list[Finding]:
    spacings = [case.spacing for case in fingerprint.cases.values()]
    median = [statistics.median(spacing[axis] for spacing in spacings) for axis in range(3)]
    unusual = [
        f"{case} ({times(found.spacing)} mm)"
        for case, found in fingerprint.cases.items()
        if any(max(own / usual, usual / own) > _UNLIKE for own, usual in zip(found.spacing, median, strict=True))
    ]
    if not unusual:
        return []
    text = f"The spacing of {named(unusual)} differs from the median {times(median)} mm by a factor of more than {_UNLIKE:g}."
    return [Finding(f"{counted(len(unusual), 'case')} with an unusual spacing", text + " Check that this is intended.")]


def _unusual_size(fingerprint: Fingerprint, plan: Plan) -> list[Finding]:
    planned = max(plan.configurations.values(), key=lambda each: (each.slice_axis is None, math.prod(each.median_shape)))
    shapes = {case: prepared_shape(found, planned) for case, found in fingerprint.cases.items()}
    median = statistics.median(math.prod(shape) for shape in shapes.values())
    large = [f"{case} ({times(shape)} voxels)" for case, shape in shapes.items() if math.prod(shape) > _LARGE * median]
    if not large:
        return []
    gigabytes = 4 * max(math.prod(shape) for shape in shapes.values()) / 1e9
    text = (
        f"At {times(planned.spacing)} mm, {named(large)} would be more than {_LARGE:g} times as large as the median case. The largest "
        f"takes {gigabytes:.3g} GB for each channel. Check the spacing in its header, or leave it out."
    )
    return [Finding(f"{counted(len(large), 'case')} many times larger than the median", text)]
