"""The ways in which a network sees one image at test time; its answer is the mean over them."""

from dataclasses import dataclass

from inference.model import Model
from inference.options import CONFIDENCE, PredictionOptions

SEARCHED = (0.64, 0.8, 1.0, 1.25, 1.5625)  # factors that are looked at where none are given: anatomy of 0.6 to 1.6 times its size


@dataclass(frozen=True)
class Variants:
    """The image, its reflections, and copies of other sizes.

    Attributes:
        mirror: average over reflections along the plan's mirror axes.
        scales: factors of the image's size; (1.0,) is the image alone.
        weights: of the factors, not negative; None weighs them alike.
        by_confidence: each image's own weights are found instead, see `inference.confidence`.

    Raises:
        ValueError: no factor, or weights that do not fit the factors.
    """

    mirror: bool = True
    scales: tuple[float, ...] = (1.0,)
    weights: tuple[float, ...] | None = None
    by_confidence: bool = False

    def __post_init__(self) -> None:
        given = self._given
        if len(given) != len(self.scales) or any(weight < 0 for weight in given) or not sum(given) > 0:
            raise ValueError(f"there must be one weight, not negative, for each of the scales {self.scales}, not {given}")

    @property
    def shares(self) -> tuple[float, ...]:
        """Weights of the factors, brought to a sum of 1."""
        return tuple(weight / sum(self._given) for weight in self._given)

    @property
    def _given(self) -> tuple[float, ...]:
        return (1.0,) * len(self.scales) if self.weights is None else self.weights


def choose_variants(model: Model, options: PredictionOptions) -> Variants:
    """Those of a model: scales and weights are the options' own, else those kept with the model, else the plan's.

    Weights by confidence are for scales of their own: the options', else `SEARCHED`.
    """
    asked, kept = options.scales, model.ensemble
    if options.scale_weights == CONFIDENCE:
        return Variants(options.mirror, asked or SEARCHED, by_confidence=True)
    if kept is not None and asked in (None, kept.scales) and options.scale_weights is None:
        return Variants(options.mirror, kept.scales, kept.weights)
    return Variants(options.mirror, asked or model.network_plan.test_scales, options.scale_weights)
