"""Choose the postprocessing that improves the winner's validation cases, label by label.

The connected components of each label are counted once, with their volumes and their overlap with the reference. The Dice under any
rule follows from these numbers without reading the segmentations again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from configs.dataset import DatasetDescription
from configs.progress import Progress
from inference.prediction.postprocessing import Rule, connected_components
from inference.selection.candidates import CaseSource
from preprocessing.formats.images import read_labels
from preprocessing.geometry.same_grid import require_same_grid
from preprocessing.parallel.for_each_case import for_each_case

_SHARES = (0.1, 0.25, 0.5, 0.75)  # of the smallest structure in any reference, to try as smallest volumes
_LEAST_GAIN = 1e-4  # of mean Dice


@dataclass(frozen=True)
class LabelComponents:
    """Connected components of one label in one predicted case."""

    volumes: NDArray[np.float64]  # volume of each component in mm^3
    voxels: NDArray[np.int64]  # number of voxels of each component that are not ignored
    confirmed: NDArray[np.int64]  # number of these voxels that have the label in the reference
    reference: int  # number of voxels of the label in the reference
    smallest_reference: float | None  # volume of the smallest component in the reference in mm^3; None if there is none

    def dice(self, rule: Rule) -> float:
        """Return the Dice under a rule; 1 if the label is absent from both, so that removing a false component counts as a gain."""
        kept = rule.kept(self.volumes)
        total = int(self.voxels[kept].sum()) + self.reference
        return 2 * int(self.confirmed[kept].sum()) / total if total else 1.0


@dataclass(frozen=True)
class Gain:
    """Effect of a rule on a label's Dice."""

    before: float  # mean over the cases without the rule
    after: float  # mean over the cases with the rule
    better: int  # number of cases that gain
    worse: int  # number of cases that lose

    @property
    def is_worth_it(self) -> bool:
        """Whether the mean is higher, and more cases gain than lose."""
        return self.after >= self.before + _LEAST_GAIN and self.better > self.worse


NO_GAIN = Gain(0.0, 0.0, 0, 0)


def choose_rules(
    segmentations: Mapping[str, Path],
    sources: Mapping[str, CaseSource],
    description: DatasetDescription,
    jobs: int,
    progress: Progress,
) -> tuple[dict[str, Rule], dict[str, Gain]]:
    """Return for each label the rule with the highest mean Dice, if it is worth it, and its gain.

    A rule turns voxels of its own label into background, so no other label can lose by it. Regions overlap, so they get no rules.
    """
    if description.has_regions:
        return {}, {}
    files = {case: (path, sources[case]) for case, path in segmentations.items()}
    count = partial(_count_case, description=description)
    counted = dict(for_each_case(count, files, jobs, progress, "Postprocessing"))
    rules, gains = {}, {}
    for name in description.foreground:
        known = [counted[case][name] for case in segmentations if name in counted[case]]
        rule, gain = best_rule(known) if known else (Rule(), NO_GAIN)
        if gain.is_worth_it:
            rules[name], gains[name] = rule, gain
    return rules, gains


def best_rule(cases: Sequence[LabelComponents]) -> tuple[Rule, Gain]:
    """Return the rule with the highest mean Dice if it is worth it, the gentlest of a tie; otherwise a rule that does nothing."""
    plain = np.array([case.dice(Rule()) for case in cases])
    best, gain = Rule(), Gain(float(plain.mean()), float(plain.mean()), 0, 0)
    sizes = [case.smallest_reference for case in cases if case.smallest_reference is not None]
    tried = [Rule(smallest_volume=share * min(sizes)) for share in _SHARES] if sizes else []
    for rule in (*tried, Rule(only_largest=True)):
        dice = np.array([case.dice(rule) for case in cases])
        reached = Gain(gain.before, float(dice.mean()), int((dice > plain).sum()), int((dice < plain).sum()))
        if reached.is_worth_it and reached.after >= gain.after + _LEAST_GAIN:
            best, gain = rule, reached
    return best, gain


def count_components(
    predicted: NDArray[np.integer],
    reference: NDArray[np.integer],
    voxel_volume: float,
    description: DatasetDescription,
    annotated: Sequence[str] | None = None,
) -> dict[str, LabelComponents]:
    """Return the components of each annotated label (None: of all), given segmentation and reference as label values (Z, Y, X)."""
    considered = np.ones(reference.shape, bool) if description.ignore_value is None else reference != description.ignore_value
    found = {}
    for name in description.foreground if annotated is None else annotated:
        value = description.labels[name]
        numbered, voxels = connected_components(predicted == value)
        true = (reference == value) & considered
        bins = len(voxels) + 1
        _, of_reference = connected_components(true)
        found[name] = LabelComponents(
            volumes=voxels.astype(np.float64) * voxel_volume,
            voxels=np.bincount(numbered[considered], minlength=bins)[1:],
            confirmed=np.bincount(numbered[true], minlength=bins)[1:],
            reference=int(np.count_nonzero(true)),
            smallest_reference=float(of_reference.min() * voxel_volume) if len(of_reference) else None,
        )
    return found


def _count_case(case: str, files: tuple[Path, CaseSource], description: DatasetDescription) -> dict[str, LabelComponents]:
    segmentation, source = files
    predicted, geometry = read_labels(segmentation)
    reference, grid = read_labels(source.labels)
    require_same_grid(f"case `{case}`", f"the prediction {segmentation}", geometry, grid)
    return count_components(predicted, reference, geometry.voxel_volume, description, source.annotated)
