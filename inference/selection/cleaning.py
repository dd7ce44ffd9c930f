"""Which postprocessing helps: judged on the validation cases of the winner, label by label.

Each label's pieces are counted once: their volumes, and how much of each the reference confirms. From these numbers the Dice under any rule
follows without touching a voxel again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from configs.dataset import DatasetDescription
from configs.progress import Progress
from inference.prediction.postprocessing import Rule, pieces
from inference.selection.candidates import Source
from preprocessing.formats.images import read_labels
from preprocessing.parallel.for_each_case import for_each_case

_SHARES = (0.1, 0.25, 0.5, 0.75)  # of the smallest structure in any reference, as smallest volumes to try
_LEAST_GAIN = 1e-4  # of mean Dice


@dataclass(frozen=True)
class LabelPieces:
    """Pieces of one label in one predicted case.

    Attributes:
        volumes: mm^3 of each piece.
        voxels: of each, ignored ones left out.
        confirmed: of these, voxels that the reference gives the label too.
        reference: voxels of the label in the reference.
        smallest_reference: mm^3 of the smallest piece there; None where there is none.
    """

    volumes: NDArray[np.float64]
    voxels: NDArray[np.int64]
    confirmed: NDArray[np.int64]
    reference: int
    smallest_reference: float | None

    def dice(self, rule: Rule) -> float:
        """Under a rule; 1 where the label is in neither, so that a false piece that is taken away counts as a gain."""
        kept = rule.kept(self.volumes)
        total = int(self.voxels[kept].sum()) + self.reference
        return 2 * int(self.confirmed[kept].sum()) / total if total else 1.0


@dataclass(frozen=True)
class Gain:
    """What a rule does to a label's Dice.

    Attributes:
        before, after: means over the cases.
        better, worse: cases that gain and lose.
    """

    before: float
    after: float
    better: int
    worse: int

    @property
    def is_worth_it(self) -> bool:
        """A higher mean, and more cases that gain than lose."""
        return self.after >= self.before + _LEAST_GAIN and self.better > self.worse


def choose_rules(
    segmentations: Mapping[str, Path],
    sources: Mapping[str, Source],
    description: DatasetDescription,
    jobs: int,
    progress: Progress,
) -> tuple[dict[str, Rule], dict[str, Gain]]:
    """For each label the rule with the highest mean Dice, where it is worth it, and its gain.

    A rule takes away voxels of its own label, which become background: no other label can lose by it. Regions overlap, so they get
    no rules.
    """
    if description.has_regions:
        return {}, {}
    files = {case: (path, sources[case].labels) for case, path in segmentations.items()}
    count = partial(_count_case, description=description)
    counted = dict(for_each_case(count, files, jobs, progress, "Postprocessing"))
    rules, gains = {}, {}
    for name in description.foreground:
        rule, gain = best_rule([counted[case][name] for case in segmentations])
        if gain.is_worth_it:
            rules[name], gains[name] = rule, gain
    return rules, gains


def best_rule(cases: Sequence[LabelPieces]) -> tuple[Rule, Gain]:
    """The rule with the highest mean Dice among those tried that are worth it, the gentlest of equals; else one that does nothing."""
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


def count_pieces(
    predicted: NDArray[np.integer], reference: NDArray[np.integer], voxel_volume: float, description: DatasetDescription
) -> dict[str, LabelPieces]:
    """Pieces of each label of a segmentation, against its reference; both are label values (Z, Y, X)."""
    considered = np.ones(reference.shape, bool) if description.ignore_value is None else reference != description.ignore_value
    found = {}
    for name in description.foreground:
        value = description.labels[name]
        numbered, voxels = pieces(predicted == value)
        true = (reference == value) & considered
        bins = len(voxels) + 1
        _, of_reference = pieces(true)
        found[name] = LabelPieces(
            volumes=voxels.astype(np.float64) * voxel_volume,
            voxels=np.bincount(numbered[considered], minlength=bins)[1:],
            confirmed=np.bincount(numbered[true], minlength=bins)[1:],
            reference=int(np.count_nonzero(true)),
            smallest_reference=float(of_reference.min() * voxel_volume) if len(of_reference) else None,
        )
    return found


def _count_case(case: str, files: tuple[Path, Path], description: DatasetDescription) -> dict[str, LabelPieces]:
    del case
    predicted, geometry = read_labels(files[0])
    reference, _ = read_labels(files[1])
    return count_pieces(predicted, reference, geometry.voxel_volume, description)
