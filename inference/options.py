"""How a prediction is made: what the user may choose between speed and accuracy."""

from dataclasses import dataclass
from typing import Literal

from inference.model import Model

Average = Literal["probabilities", "logits"]
CONFIDENCE: Literal["confidence"] = "confidence"


@dataclass(frozen=True)
class PredictionOptions:
    """Sliding window and test-time ensembling.

    Attributes:
        mirror: average over reflections along the plan's mirror axes.
        scales: factors of scale ensembling; None takes those kept with the model, or else the plan's; (1.0,) is none.
        scale_weights: of the given `scales`; None takes those kept with the model for these scales, or else weighs them alike;
            `confidence` finds them for each image among several scales, see `inference.engine.confidence`.
        step: largest distance of neighbouring tiles, as a share of the patch, in (0, 1].
        tile_batch: tiles per forward pass; None chooses by device.
        average: what is averaged over folds, scales and models and resampled to the image: `probabilities`, or `logits` as
            nnU-Net does.

    Raises:
        ValueError: a value out of range.
    """

    mirror: bool = True
    scales: tuple[float, ...] | None = None
    scale_weights: tuple[float, ...] | Literal["confidence"] | None = None
    step: float = 0.5
    tile_batch: int | None = None
    average: Average = "probabilities"

    def __post_init__(self) -> None:
        if not 0 < self.step <= 1:
            raise ValueError(f"the step must be above 0 and at most 1, not {self.step}")
        if self.scales is not None and not (self.scales and all(0 < factor <= 8 for factor in self.scales)):
            raise ValueError(f"scales must be one or more factors above 0 and at most 8, not {self.scales}")
        weights = self.scale_weights
        if weights == CONFIDENCE and self.scales is not None and len(self.scales) < 2:
            raise ValueError(f"{CONFIDENCE} chooses among several scales, and there is one: {self.scales[0]:g}")
        if weights is not None and weights != CONFIDENCE:
            fitting = self.scales is not None and len(weights) == len(self.scales)
            if not fitting or any(weight < 0 for weight in weights) or not sum(weights) > 0:
                raise ValueError(f"there must be one weight, not negative, for each of the scales {self.scales}, not {weights}")
        if self.tile_batch is not None and self.tile_batch < 1:
            raise ValueError(f"the tile batch must be at least 1, not {self.tile_batch}")


FAST = PredictionOptions(mirror=False, scales=(1.0,), step=0.75)


SEARCHED = (0.64, 0.8, 1.0, 1.25, 1.5625)  # factors that are looked at where none are given: anatomy of 0.6 to 1.6 times its size


@dataclass(frozen=True)
class Variants:
    """The image, its reflections, and copies of other sizes.

    Attributes:
        mirror: average over reflections along the plan's mirror axes.
        scales: factors of the image's size; (1.0,) is the image alone.
        weights: of the factors, not negative; None weighs them alike.
        by_confidence: each image's own weights are found instead, see `inference.engine.confidence`.

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
    return Variants(options.mirror, asked or model.plan.network.test_scales, options.scale_weights)
