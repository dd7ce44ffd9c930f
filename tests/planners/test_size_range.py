"""The planned range of sizes holds new cases as often as it says, and follows from the widest label."""

import math

import numpy as np
import pytest

from configs.errors import InputError
from configs.fingerprint import CaseFingerprint, LabelSizes
from configs.plan import LabelRange, SizeRange
from planners.options import PlanningOptions
from planners.rules.size_range import LEAST_SCALING, choose_scaling, choose_size_range

SHAPE = (20, 20, 20)


def case(**diameters: float | tuple[float, ...]) -> CaseFingerprint:
    """A case with structures of these diameters in mm."""
    labels = {}
    for name, given in diameters.items():
        volumes = tuple(math.pi / 6 * size**3 for size in (given if isinstance(given, tuple) else (given,)))
        labels[name] = LabelSizes(
            voxels=len(volumes) and round(sum(volumes)) + 1,
            volume=sum(volumes),
            component_volumes=volumes,
            components=len(volumes),
        )
    return CaseFingerprint(spacing=(1, 1, 1), shape=SHAPE, shape_after_crop=SHAPE, relative_size_after_crop=1, labels=labels)


def chosen(*cases: CaseFingerprint) -> SizeRange:
    return choose_size_range({f"c{number}": one for number, one in enumerate(cases)}).value


def drawn(random: np.random.Generator, number: int, deviation: float) -> list[CaseFingerprint]:
    return [case(organ=float(30 * 2**octaves)) for octaves in random.normal(0, deviation, number)]


@pytest.mark.parametrize("number", [4, 10, 40])
def test_a_new_case_lies_within_as_often_as_said(number: int) -> None:
    """Of datasets drawn again and again, 99 % hold a new case; the range is about their mean, not about their median, so both are drawn."""
    random, inside, trials, deviation = np.random.default_rng(0), 0, 1500, 0.15
    for _ in range(trials):
        octaves = random.normal(0, deviation, number)
        found = choose_size_range({f"c{index}": case(organ=float(30 * 2**one)) for index, one in enumerate(octaves)})
        reach = float(found.reason.split("lie within ")[1].split(" octaves")[0])
        inside += abs(random.normal(0, deviation) - octaves.mean()) <= reach + 0.005
    assert 0.98 <= inside / trials <= 1.0, "a share of 0.99, within four standard errors"


def test_few_cases_and_tumours_give_wide_ranges_and_many_alike_narrow_ones() -> None:
    random = np.random.default_rng(1)
    many, few, tumours = (chosen(*drawn(random, *how)) for how in ((140, 0.08), (3, 0.08), (60, 0.7)))
    assert (many.low, many.high) == (0.8, 1.25)
    assert few.high > 1.4 and (tumours.low, tumours.high) == (0.5, 2.0)


def test_the_widest_label_decides() -> None:
    alike = [case(organ=30, tumour=size) for size in (8.0, 16.0, 20.0, 12.0)]
    assert chosen(*alike).label == "tumour"
    alone = chosen(*[case(tumour=size) for size in (8.0, 16.0, 20.0, 12.0)])
    assert (chosen(*alike).low, chosen(*alike).high) == (alone.low, alone.high)


def test_specks_do_not_decide() -> None:
    plain = [case(organ=size) for size in (29.0, 30.0, 31.0, 30.5)]
    speckled = [case(organ=(size, *[1.0] * specks)) for size, specks in ((29.0, 0), (30.0, 40), (31.0, 7), (30.5, 80))]
    assert chosen(*plain).high == pytest.approx(chosen(*speckled).high, rel=0.01)


def test_without_two_cases_of_a_label_the_range_is_the_widest() -> None:
    decision = choose_size_range({"a": case(organ=30), "b": case(other=10), "c": case(organ=())})
    assert (decision.value.low, decision.value.high, decision.value.label) == (0.5, 2.0, None)
    assert decision.value.labels == {"organ": LabelRange(diameter=30), "other": LabelRange(diameter=10)}
    assert "no label occurs in two cases" in decision.reason


def test_equal_sizes_give_the_least_range_and_its_reason() -> None:
    decision = choose_size_range({"a": case(organ=30), "b": case(organ=30)})
    assert (decision.value.low, decision.value.high) == (0.8, 1.25) and "widened" in decision.reason


def test_a_request_is_followed_or_refused() -> None:
    decision = choose_size_range({"a": case(organ=30), "b": case(organ=31)}, (0.5, 3))
    assert (decision.value.low, decision.value.high, decision.value.label) == (0.5, 3, "organ")
    assert decision.reason.endswith("as requested.")
    for wrong in ((1.1, 2), (0.5, 0.9), (0.1, 2), (0.5, 9), (math.nan, 2)):
        with pytest.raises(InputError, match="--scale-range"):
            PlanningOptions(scale_range=wrong)


def test_random_scaling_is_that_of_nnunet_and_covers_a_requested_range_as_densely() -> None:
    wide = SizeRange(low=0.5, high=2.0)
    usual, share = choose_scaling(wide, requested=False)
    assert (usual.value, share) == (LEAST_SCALING, 0.2) and "as in nnU-Net" in usual.reason
    covered, more = choose_scaling(wide, requested=True)
    assert covered.value == (0.5, 2.0) and more == pytest.approx(0.4)
    larger, _ = choose_scaling(SizeRange(low=1, high=4), requested=True)
    assert larger.value == (0.25, 1.4), "a patch of a quarter of the size is enlarged to four times"
    assert choose_scaling(SizeRange(low=0.9, high=1.1), requested=True)[0].value == LEAST_SCALING
