"""Look at validation cases whose anatomy was made smaller and larger, and keep what the network shows there beside the truth."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor, nn

from configs.dataset import DatasetDescription
from configs.files import Value
from configs.plan import ModelPlan, SizeRange
from configs.progress import Progress, Silent
from inference.engine.capacity import Capacity, within
from inference.engine.ensemble import Blending
from inference.engine.scaling import scale_image, scaled_shape
from inference.engine.sums import label_masks, overlap_of
from inference.sizes.calibration import STEP, WIDEST, Evidence, Sample, factors_of, steps_between
from inference.sizes.looks import WHOLE, ImagePart, Look, agreement, look, surroundings
from preprocessing.resample import resample_labels
from preprocessing.store import CaseStore, StoredCase

MOST_CASES, FEWEST_CASES = 12, 4  # of one fold
MOST_AS_THEY_ARE = 60  # further cases of one fold, which are looked at as they are alone
MOST_PASSES = 300  # over the natural size of a case, above which fewer cases are looked at
_NEARLY = 1.001  # tolerance of factors


class LookedAt(Value):
    """One look at one case of one size, label by label."""

    size: float = Field(gt=0)  # factor by which the anatomy was made larger
    factor: float = Field(gt=0)  # factor of the image's size at which the network looked
    expected: tuple[float, ...]  # Dice that the network expects
    agreement: tuple[float, ...]  # with its answer at the next smaller factor
    diameters: tuple[float, ...]  # mm, as the network saw them
    dice: tuple[float | None, ...]  # true Dice; None where the label is in neither

    @property
    def by_label(self) -> tuple[tuple[float | None, ...], ...]:
        """The numbers of each kind, which have one entry for each label."""
        return self.expected, self.agreement, self.diameters, self.dice


class Looks(Value):
    """Content of `looks.json` in the folder of a fold: the looks at each of its validation cases, without their names.

    Some cases are looked at in all sizes, the others as they are alone.
    """

    labels: tuple[str, ...]  # labels or regions, in the network's order
    weights: str  # SHA-256 of the network's weights
    cases: tuple[tuple[LookedAt, ...], ...] = Field(default=())
    present: tuple[tuple[bool, ...], ...] = Field(default=())  # whether each case has each label
    mirrored: tuple[tuple[float | None, ...], ...] = Field(
        default=()
    )  # true Dice of each case as it is with reflections; empty without mirror axes, and in files of earlier versions

    @model_validator(mode="after")
    def _counts_agree(self) -> "Looks":
        counts = {len(values) for case in self.cases for one in case for values in one.by_label}
        counts |= {len(values) for values in (*self.present, *self.mirrored)}
        if (
            not counts <= {len(self.labels)}
            or len(self.present) != len(self.cases)
            or len(self.mirrored) not in (0, len(self.cases))
        ):
            raise ValueError(f"each look needs its numbers of all {len(self.labels)} labels, and each case its labels")
        if any(
            sum(one.factor == 1 for one in case if one.size == size) != 1
            for case in self.cases
            for size in {one.size for one in case}
        ):
            raise ValueError("each size of a case needs one look at factor 1")
        return self

    def samples(self, first_case: int = 0) -> list[Sample]:
        """Return the looks with cases numbered from `first_case`."""
        return [_sample(first_case + number, one) for number, looks in enumerate(self.cases) for one in looks]


@dataclass(frozen=True)
class Observer:
    """A network whose looks are measured."""

    network: nn.Module
    plan: ModelPlan
    capacity: Capacity  # of the network's device

    @property
    def sizes(self) -> SizeRange:
        """The planned range of sizes."""
        return self.plan.whole.sizes or WIDEST

    def look(self, image: Tensor, factor: float, mirror: bool = False, place: ImagePart = WHOLE) -> Look:
        """Look at an image (C, Z, Y, X) at one factor of its size; see `inference.sizes.looks.look`."""
        how = Blending(regions=self.plan.dataset.has_regions)

        def attempt(capacity: Capacity) -> Look:
            volume = image.to(capacity.volumes_device)
            return look(self.network, volume, self.plan.network, factor, how, capacity, mirror, place)

        return within(self.capacity, attempt, "calibration")


def measure_looks(
    observer: Observer, store: CaseStore, cases: Sequence[str], weights: str, progress: Progress | None = None
) -> Looks:
    """Look at the cases without reflections, and once with them as they are.

    Up to 12 cases, spread evenly, or as few as 4 where the range is wide, are looked at in all sizes of the planned range and one step
    beyond, at each factor that shows the network anatomy of such a size. Up to 60 others are looked at as they are, which takes little
    time: they tell how good answers at natural size are, and so how typical the first cases are.
    """
    chosen = spread_evenly(cases, affordable_cases(observer.sizes))
    others = spread_evenly([case for case in cases if case not in chosen], MOST_AS_THEY_ARE)
    found, present, mirrored = [], [], []
    for identifier in (progress or Silent()).track([*chosen, *others], "Calibrating", len(chosen) + len(others)):
        case = _Case.of(store.read(identifier))
        sizes = sizes_to_try(observer.sizes) if identifier in chosen else [1.0]
        factors = {size: _plausible(size, observer.sizes) if identifier in chosen else [1.0] for size in sizes}
        found.append(tuple(one for size in sizes for one in _looks_at(observer, case, size, factors[size])))
        classes = torch.from_numpy(case.classes)
        if observer.plan.network.mirror_axes:
            mirrored.append(_dice(observer.look(case.image, 1.0, mirror=True), classes, observer.plan.dataset))
        truth = _truth(classes, observer.plan.dataset)
        present.append(tuple(bool(mask.any()) for mask in label_masks(truth, len(observer.plan.dataset.foreground))))
    labels = observer.plan.dataset.foreground
    return Looks(labels=labels, weights=weights, cases=tuple(found), present=tuple(present), mirrored=tuple(mirrored))


def spread_evenly(cases: Sequence[str], most: int) -> list[str]:
    """Return at most that many of the cases, spread evenly."""
    number = min(most, len(cases))
    return [cases[index * len(cases) // number] for index in range(number)]


def affordable_cases(sizes: SizeRange) -> int:
    """Return the number of cases to look at: looks at enlarged images cost the cube of their size."""
    each = sum((size * factor) ** 3 for size in sizes_to_try(sizes) for factor in _plausible(size, sizes))
    return max(FEWEST_CASES, min(MOST_CASES, int(MOST_PASSES / each)))


def looked_at_sizes(sizes: SizeRange) -> list[float]:
    """Return the size, as a factor of the stored one, of each image that a calibration shows the network of one case."""
    shown = [(size, factor) for size in sizes_to_try(sizes) for factor in _with_smaller(_plausible(size, sizes))]
    return [size * factor for size, factor in shown]


def sizes_to_try(sizes: SizeRange) -> list[float]:
    """Return the factors of the anatomy's size: the range in steps of 1.25, and one step beyond it either way up to 0.5 and 2."""
    low, high = max(sizes.low / STEP, WIDEST.low), min(sizes.high * STEP, WIDEST.high)
    return steps_between(min(sizes.low, low), max(sizes.high, high))


@dataclass(frozen=True)
class _Case:
    """A prepared case in memory."""

    image: Tensor  # (C, Z, Y, X) float32
    classes: NDArray[np.int16]  # class indices (Z, Y, X)
    voxel: float  # volume in mm^3

    @classmethod
    def of(cls, case: StoredCase) -> "_Case":
        """Read the arrays of a stored case."""
        voxel = float(np.prod(case.properties.trace.resampled_spacing))
        return cls(torch.from_numpy(case.image[:]), case.labels[:], voxel)


def _looks_at(observer: Observer, case: _Case, size: float, factors: Sequence[float]) -> Iterator[LookedAt]:
    """Yield the looks at these factors at a case of this size, and look once at the next smaller factor for the agreement."""
    dataset, planned = observer.plan.dataset, observer.plan.network
    axes = [axis for axis, length in enumerate(planned.patch_size) if length > 1]
    scaled, labels = _rescale(case.image, case.classes, scaled_shape(case.classes.shape, size, axes))
    natural = observer.look(scaled, 1.0)
    near = surroundings(natural, planned.patch_size)  # as the search looks at enlarged images
    looks = [
        natural if factor == 1 else observer.look(scaled, factor, place=near if factor > 1 else WHOLE)
        for factor in _with_smaller(factors)
    ]
    for smaller, one in pairwise(looks):
        yield LookedAt(
            size=size,
            factor=one.factor,
            expected=tuple(one.expected.tolist()),
            agreement=tuple(agreement(one, smaller).tolist()),
            diameters=tuple(one.diameters(case.voxel).tolist()),
            dice=_dice(one, labels, dataset),
        )


def _dice(one: Look, labels: Tensor, dataset: DatasetDescription) -> tuple[float | None, ...]:
    """Return the true Dice of each label, given class indices (Z, Y, X); None where it is in neither."""
    ignored = labels == (-1 if dataset.ignore_index is None else dataset.ignore_index)
    dice = true_dice(one, _truth(labels, dataset), ignored, len(dataset.foreground))
    unknown = _unannotated(labels, dataset)
    return tuple(
        None if np.isnan(value) or name in unknown else float(value) for name, value in zip(dataset.foreground, dice, strict=True)
    )


def _unannotated(labels: Tensor, dataset: DatasetDescription) -> set[str]:
    """Return the labels that were not annotated in a case of these class indices."""
    highest = int(labels.max())
    missing = [names for names in dataset.annotated if dataset.partial_index(names) == highest]
    return {name for names in missing for name in dataset.foreground if name not in names}


def _plausible(size: float, sizes: SizeRange) -> list[float]:
    """Return the factors that show the network anatomy of the sizes to try."""
    tried = sizes_to_try(sizes)
    return [factor for factor in factors_of(sizes) if tried[0] / _NEARLY <= size * factor <= tried[-1] * _NEARLY]


def _with_smaller(factors: Sequence[float]) -> list[float]:
    """Return the factors, and before them the next smaller one, whose look only serves the agreement."""
    return [factors[0] / STEP, *factors]


def _rescale(image: Tensor, classes: NDArray[np.int16], shape: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    """Return image (C, *shape) and class indices with the anatomy at another size; what is exactly 0 in all channels stays 0."""
    if shape == classes.shape:
        return image, torch.from_numpy(classes)
    kept = resample_labels((image != 0).any(0).numpy().astype(np.int16), shape)
    return scale_image(image, shape) * torch.from_numpy(kept), torch.from_numpy(resample_labels(classes, shape))


def _truth(classes: Tensor, dataset: DatasetDescription) -> Tensor:
    """Return class indices (Z, Y, X) int16, with ignored voxels as background; or regions (R, Z, Y, X) bool."""
    if dataset.has_regions:
        members = [torch.tensor(dataset.class_indices(name)) for name in dataset.foreground]
        return torch.stack([torch.isin(classes, indices) for indices in members])
    return torch.where(classes < len(dataset.values), classes, 0)


def true_dice(one: Look, truth: Tensor, ignored: Tensor, labels: int) -> NDArray[np.float64]:
    """Return the Dice of each label outside of ignored voxels; NaN where it is in neither."""
    decision = one.decision.cpu().clone()
    decision[..., ignored] = 0
    dice = overlap_of(decision, truth, labels)
    absent = [
        not (first.any() or second.any())
        for first, second in zip(label_masks(decision, labels), label_masks(truth, labels), strict=True)
    ]
    dice[np.array(absent)] = np.nan
    return dice


def _sample(case: int, one: LookedAt) -> Sample:
    evidence = Evidence(np.array(one.expected), np.array(one.agreement), np.array(one.diameters))
    return Sample(case, one.size, one.factor, evidence, np.array([np.nan if value is None else value for value in one.dice]))
