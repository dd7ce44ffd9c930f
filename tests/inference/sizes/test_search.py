"""The search finds the size of the anatomy, does nothing where an image looks as usual, and costs what it says."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from configs.dataset import DatasetDescription
from configs.plan import LabelRange, ModelPlan, SizeRange
from inference.engine.assemble import Wanted
from inference.engine.capacity import Capacity
from inference.engine.ensemble import Blending
from inference.engine.sums import dice_of, sums_of
from inference.model import Model
from inference.options import PredictionOptions
from inference.predictor import Predictor
from inference.sizes.calibration import Calibration, Evidence, Map
from inference.sizes.finder import SizeFinder, with_affordable_reflections
from inference.sizes.looks import WHOLE, ImagePart, Look, surroundings
from inference.sizes.search import find_factor, uncalibrated
from preprocessing.geometry.affine import Geometry
from tests.inference.models import plan

RADIUS = 5.0
WIDE = SizeRange(low=0.5, high=2.0, labels={"ball": LabelRange(diameter=2 * RADIUS, octaves=0.1)})


def shows(expected: dict[float, float], agreement: bool = True, diameter: float = 8.0):  # type: ignore[no-untyped-def]
    """Looks that show these expected Dice, and nothing at other factors, of a ball of this diameter in mm at natural size."""
    asked = []

    def show(factor: float) -> Evidence:
        asked.append(round(factor, 3))
        value = next((dice for key, dice in expected.items() if abs(key - factor) < 0.01), 0.1)
        return Evidence(np.array([value]), np.array([value]) if agreement else None, np.array([diameter]))

    return show, asked


def one(value: float, diameter: float = 10.0) -> Evidence:
    return Evidence(np.array([value]), None, np.array([diameter]))


def test_an_image_that_looks_as_usual_is_not_looked_at_again() -> None:
    show, asked = shows({1.0: 0.9})
    known = uncalibrated(("ball",), WIDE).model_copy(update={"usual": 0.8})
    found = find_factor(known, one(0.81), show)
    assert (found.factor, found.searched, asked) == (1.0, False, [])
    assert find_factor(known, one(0.81), show, forced=True).searched and asked


def test_the_search_climbs_to_the_best_size_and_no_further() -> None:
    show, asked = shows({0.64: 0.3, 0.8: 0.4, 1.0: 0.5, 1.25: 0.7, 1.5625: 0.9, 1.953: 0.8})
    found = find_factor(uncalibrated(("ball",), WIDE), one(0.5), show)
    assert found.factor == pytest.approx(1.5625) and found.searched
    assert asked == [1.0, 0.8, 1.25, 1.562, 1.953], "one step downwards shows that it is worse there"


def test_natural_size_is_left_only_for_a_gain_above_the_margin() -> None:
    show, _ = shows({0.8: 0.4, 1.0: 0.50, 1.25: 0.53})
    known = uncalibrated(("ball",), WIDE)
    assert find_factor(known.model_copy(update={"margin": 0.04}), one(0.5), show).factor == 1.0
    assert find_factor(known.model_copy(update={"margin": 0.02}), one(0.5), show).factor == 1.25


def test_larger_factors_are_tried_only_where_the_anatomy_may_be_smaller() -> None:
    grows = {0.8: 0.4, 1.0: 0.5, 1.25: 0.7}
    known = uncalibrated(("ball",), WIDE)

    def tried(diameter: float, calibration: Calibration = known) -> bool:
        show, asked = shows(grows, diameter=diameter)
        find_factor(calibration, one(0.5, diameter), show)
        return any(factor > 1 for factor in asked)

    assert tried(8.0) and not tried(10.0) and not tried(12.0)
    assert tried(0.0), "nothing was found"
    show, asked = shows({0.8: 0.6, 1.0: 0.5, 1.25: 0.9})
    assert find_factor(known, one(0.5), show).factor == 0.8 and max(asked) == 1, "a smaller factor brings enough"


def test_enlarged_images_are_looked_at_around_what_was_found() -> None:
    decision = torch.zeros(40, 50, 60, dtype=torch.int16)
    whole = Look(1.0, decision, torch.zeros(3, 1))
    assert surroundings(whole, (8, 8, 8)) == WHOLE, "nothing was found"
    decision[10:12, 2:5, 50:60] = 1
    assert surroundings(whole, (8, 10, 12)) == (slice(6, 16), slice(0, 10), slice(44, 60))
    regions = Look(1.0, torch.stack([decision == 1, decision == 2]), torch.zeros(3, 2))
    assert surroundings(regions, (8, 10, 12)) == surroundings(whole, (8, 10, 12))
    assert surroundings(whole, (80, 100, 120)) == WHOLE


def test_labels_far_from_what_was_found_count_at_the_chosen_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """At natural size only `near` is found; enlarged, `far` would be found too, but lies outside of the box that is searched."""
    labels, asked = ("near", "far"), []
    sizes = SizeRange(low=0.5, high=2.0, labels={"near": LabelRange(diameter=13.0, octaves=0.1)})

    def looks(network: nn.Module, image: Tensor, plan: object, factor: float, *rest: object, place: ImagePart = WHOLE) -> Look:
        asked.append((round(factor, 2), place))
        decision = torch.zeros(image.shape[1:], dtype=torch.int16)
        decision[4:12, 4:12, 4:12] = 1
        sure, volume = 0.5 + 0.2 * (factor > 1), float((decision == 1).sum())
        far = 100.0 if factor > 1 and place == WHOLE else 0.0
        sums = torch.tensor([[sure * volume, far], [sure * volume, far], [volume, far]], dtype=torch.float64)
        return Look(factor, decision, sums)

    monkeypatch.setattr("inference.sizes.finder.look", looks)
    known = uncalibrated(labels, sizes).model_copy(update={"usual": 0.9, "always": (True, False)})
    whole, network = model()
    finder = SizeFinder(network, whole.plan, known, True, False, Blending(), Capacity.of(torch.device("cpu")))
    found = finder.find(torch.zeros(1, 64, 64, 64), (1.0, 1.0, 1.0))
    assert found.factor > 1 and found.evidence.found.all()
    enlarged = [place for factor, place in asked if factor > 1]
    assert enlarged[-1] == WHOLE and all(place == (slice(0, 40),) * 3 for place in enlarged[:-1]), "half of a patch of 56"


class Knowing(nn.Module):
    """Finds everything bright, and is the surer and the better the nearer its volume is to a ball of the radius that it knows.

    Away from that size it loses the outer part, as networks do.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        radius = (float((x > 0.5).sum()) * 3 / (4 * math.pi)) ** (1 / 3)
        off = abs(math.log2(max(radius, 0.1) / RADIUS))
        label = 40 * math.exp(-4 * off) * (x - min(0.9, 0.5 + 0.6 * off))
        return torch.cat([torch.zeros_like(label), label], 1)


DATASET = DatasetDescription(name="balls", channels=("MR",), labels={"background": 0, "ball": 1})


def model(searches: bool = True) -> tuple[Model, Knowing]:
    whole = plan(DATASET)
    configuration = whole.configurations["3d_fullres"]
    large = configuration.networks["baseline"].model_copy(update={"patch_size": (56, 56, 56)})
    whole = whole.model_copy(
        update={"configurations": {"3d_fullres": configuration.model_copy(update={"networks": {"baseline": large}})}}
    )
    known = uncalibrated(("ball",), WIDE).model_copy(
        update={"usual": 0.9, "searches": searches, "first": Map(constants=(0.0,), slopes=(1, 0, 0), below=0.1, above=0.1)}
    )
    network = Knowing()
    return Model(ModelPlan(whole), {"0": network}, known), network


def ball(radius: float) -> np.ndarray:
    squares = (np.arange(24) - 11.5) ** 2
    distance = np.sqrt(squares[:, None, None] + squares[:, None] + squares)
    return np.clip(radius - distance + 0.5, 0, 1)[None].astype(np.float32)


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize(("size", "factor"), [(1.0, 1.0), (0.64, 1.5625), (1.5625, 0.64)])
def test_the_size_of_the_anatomy_is_found(size: float, factor: float, mirror: bool) -> None:
    known, network = model()
    geometry = Geometry.from_spacing((24, 24, 24), (1, 1, 1))
    predictor = Predictor(known, "cpu", PredictionOptions(mirror=mirror))
    found = predictor.segment(ball(RADIUS * size), geometry)
    assert found.quality is not None and found.quality.size == pytest.approx(1 / factor)
    calls = network.calls
    plain = Predictor(known, "cpu", PredictionOptions(mirror=mirror, search="never")).segment(ball(RADIUS * size), geometry)
    truth = ball(RADIUS * size)[0] > 0.5

    def dice(labels: np.ndarray) -> float:
        return 2 * (truth & (labels > 0)).sum() / (truth.sum() + (labels > 0).sum())

    if factor == 1:
        np.testing.assert_array_equal(found.labels, plain.labels)
        assert calls == (3 if mirror else 1), "one look beside the reflections; none where the answer itself is a look"
    else:
        assert dice(found.labels) > dice(plain.labels) + 0.03
        assert plain.quality is not None and plain.quality.doubts, "what was forbidden to be searched is doubted"


def test_the_search_can_be_off_for_a_model_and_forced() -> None:
    known, _ = model(searches=False)
    geometry = Geometry.from_spacing((24, 24, 24), (1, 1, 1))
    small = ball(RADIUS * 0.64)
    quality = Predictor(known, "cpu", PredictionOptions(mirror=False)).segment(small, geometry).quality
    assert quality is not None and quality.size == 1 and quality.doubts
    forced = Predictor(known, "cpu", PredictionOptions(mirror=False, search="always")).segment(small, geometry).quality
    assert forced is not None and forced.size == pytest.approx(0.64)


def test_sums_are_those_of_the_definition() -> None:
    torch.manual_seed(0)
    for regions in (False, True):
        scores = torch.randn(4, 5, 6, 7)
        probabilities = torch.sigmoid(scores) if regions else torch.softmax(scores, 0)
        decision = probabilities > 0.5 if regions else nn.functional.one_hot(probabilities.argmax(0), 4).movedim(-1, 0).bool()
        kept = slice(None) if regions else slice(1, None)
        expected = torch.stack([(probabilities * decision).sum((1, 2, 3)), probabilities.sum((1, 2, 3)), decision.sum((1, 2, 3))])
        sums = sums_of(probabilities, regions)
        torch.testing.assert_close(sums, expected.double()[:, kept], rtol=1e-5, atol=1e-5)
        both, one, other = sums.numpy()
        np.testing.assert_allclose(dice_of(sums), 2 * both / (one + other))


def test_wanted_outputs_survive_the_search() -> None:
    known, _ = model()
    geometry = Geometry.from_spacing((24, 24, 24), (1, 1, 1))
    predictor = Predictor(known, "cpu", PredictionOptions(mirror=False))
    answer = predictor.segment(ball(RADIUS * 0.64), geometry, Wanted(probabilities=True, uncertainty=True))
    assert answer.probabilities is not None and answer.entropy is not None
    assert (answer.probabilities.argmax(0) == answer.labels).all()


@pytest.mark.parametrize(
    ("patch", "factor", "left"),
    [
        ((16, 16, 16), 0.5, 3),
        ((16, 16, 16), 1.25, 2),
        ((16, 16, 16), 1.25**2, 1),
        ((16, 16, 16), 1.25**3, 0),
        ((1, 16, 16), 1.25, 1),
    ],
)
def test_an_enlarged_image_has_so_few_reflections_that_it_costs_no_more(
    patch: tuple[int, int, int], factor: float, left: int
) -> None:
    axes = tuple(axis for axis, size in enumerate(patch) if size > 1)
    planned = plan().network("3d_fullres", "baseline").model_copy(update={"patch_size": patch, "mirror_axes": axes})
    kept = with_affordable_reflections(planned, factor).mirror_axes
    assert len(kept) == left
    assert 2 ** len(kept) * factor ** len(axes) <= 1.05 * 2 ** len(axes)


def test_the_search_reaches_the_size_of_training_through_worse_ones() -> None:
    """The anatomy has 0.64 of its size: at 1.25 nothing is better, at 1.5625 all is well."""
    expected = {0.8: 0.6, 1.0: 0.7, 1.25: 0.65, 1.5625: 0.95, 1.953125: 0.6}
    sizes = SizeRange(low=0.5, high=2, label="ball", labels={"ball": LabelRange(diameter=20, octaves=0.2)})
    known = uncalibrated(("ball",), sizes)
    seen = []

    def show(factor: float) -> Evidence:
        seen.append(factor)
        nearest = min(expected, key=lambda known: abs(known - factor))
        return one(expected[nearest], diameter=12.8 * factor)

    found = find_factor(known, one(0.7, diameter=12.8), show)
    assert found.factor == pytest.approx(1.5625) and sorted(seen) == pytest.approx([0.8, 1.0, 1.25, 1.5625])
    unknown = known.model_copy(update={"sizes": SizeRange(low=0.5, high=2)})
    assert find_factor(unknown, one(0.7), show).factor == 1, "without a size of training nothing leads there"
