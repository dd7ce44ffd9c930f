"""Where the scales of a prediction come from: one order of precedence."""

from dataclasses import replace

import pytest

from inference.model import ScaleEnsemble
from inference.options import SEARCHED, Variants, choose_variants
from inference.prediction.command import GivenOptions
from tests.inference.models import threshold_model

KEPT = ScaleEnsemble(scales=(0.5, 1.0), weights=(1.0, 3.0))
PLANNED = (0.8, 1.0)  # of tests.inference.models


@pytest.mark.parametrize(
    ("given", "kept", "expected"),
    [
        (GivenOptions(), None, Variants(scales=PLANNED)),
        (GivenOptions(), KEPT, Variants(scales=(0.5, 1.0), weights=(1.0, 3.0))),
        (GivenOptions(scales=("plan",)), KEPT, Variants(scales=(0.5, 1.0), weights=(1.0, 3.0))),
        (GivenOptions(scales=("0.5", "1")), KEPT, Variants(scales=(0.5, 1.0), weights=(1.0, 3.0))),
        (GivenOptions(scales=("0.5", "1"), scale_weights=("2", "1")), KEPT, Variants(scales=(0.5, 1.0), weights=(2.0, 1.0))),
        (GivenOptions(scales=("0.9", "1.1")), KEPT, Variants(scales=(0.9, 1.1))),
        (GivenOptions(scales=("none",)), KEPT, Variants(scales=(1.0,))),
        (GivenOptions(fast=True), KEPT, Variants(mirror=False, scales=(1.0,))),
        (GivenOptions(fast=True, mirror=True, scales=("plan",)), None, Variants(scales=PLANNED)),
        (GivenOptions(fast=True, scales=("2",)), KEPT, Variants(mirror=False, scales=(2.0,))),
        (GivenOptions(scale_weights=("confidence",)), KEPT, Variants(scales=SEARCHED, by_confidence=True)),
        (GivenOptions(scales=("plan",), scale_weights=("confidence",)), KEPT, Variants(scales=SEARCHED, by_confidence=True)),
        (GivenOptions(scales=("0.8", "1"), scale_weights=("confidence",)), None, Variants(scales=(0.8, 1.0), by_confidence=True)),
    ],
)
def test_command_line_then_scales_json_then_plan(given: GivenOptions, kept: ScaleEnsemble | None, expected: Variants) -> None:
    assert choose_variants(replace(threshold_model(), ensemble=kept), given.options()) == expected
