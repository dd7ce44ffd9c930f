"""Where the size of a prediction comes from: one source, one precedence."""

from dataclasses import replace

import pytest

from configs.plan import SizeRange
from inference.options import PredictionOptions, Variants, searches
from inference.prediction.command import GivenOptions
from inference.sizes.calibration import Calibration
from inference.sizes.search import uncalibrated
from tests.inference.models import threshold_model

OFF = uncalibrated(("grey", "bright"), SizeRange(low=0.8, high=1.25))
ON = OFF.model_copy(update={"searches": True})


@pytest.mark.parametrize(
    ("given", "calibration", "searched", "expected"),
    [
        (GivenOptions(), None, False, Variants()),
        (GivenOptions(), OFF, False, Variants()),
        (GivenOptions(), ON, True, Variants()),
        (GivenOptions(search="never"), ON, False, Variants()),
        (GivenOptions(search="always"), None, True, Variants()),
        (GivenOptions(scales=(0.5, 1)), ON, False, Variants(scales=(0.5, 1.0))),
        (GivenOptions(scales=(0.5, 1), scale_weights=(2, 1)), ON, False, Variants(scales=(0.5, 1.0), weights=(2.0, 1.0))),
        (GivenOptions(fast=True), ON, False, Variants(mirror=False)),
        (GivenOptions(fast=True, search="auto", mirror=True), ON, True, Variants()),
        (GivenOptions(fast=True, scales=(2,)), ON, False, Variants(mirror=False, scales=(2.0,))),
    ],
)
def test_given_scales_then_the_option_then_the_calibration(
    given: GivenOptions, calibration: Calibration | None, searched: bool, expected: Variants
) -> None:
    options = given.options()
    assert searches(replace(threshold_model(), calibration=calibration), options) is searched
    assert Variants.of(options) == expected


def test_contradictions_are_refused() -> None:
    with pytest.raises(ValueError, match="either the size is searched or scales are given"):
        PredictionOptions(search="always", scales=(1.0,))
    with pytest.raises(ValueError, match="the search must be one of auto, always, never"):
        PredictionOptions(search="sometimes")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="needs a nonnegative weight"):
        PredictionOptions(scale_weights=(1.0,))
