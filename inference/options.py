"""Options of a prediction, which trade speed for accuracy."""

from dataclasses import dataclass
from typing import Literal

from inference.model import Model

Average = Literal["probabilities", "logits"]
CONFIDENCE: Literal["confidence"] = "confidence"


@dataclass(frozen=True)
class PredictionOptions:
    """Options of sliding window and test-time ensembling.

    Attributes:
        mirror: whether to average over reflections along the plan's mirror axes.
        scales: factors of scale ensembling; None leaves the choice to `choose_variants`; (1.0,) disables it.
        scale_weights: weights of the given `scales`; None leaves the choice to `choose_variants`;
            `confidence` chooses weights for each image, see `inference.engine.confidence`.
        step: largest distance between neighbouring tiles, as a share of the patch, in (0, 1].
        tile_batch: tiles per forward pass; None chooses by device.
        average: quantity that is averaged over folds, scales and models and resampled to the image: `probabilities`, or `logits` as in
            nnU-Net.

    Raises:
        ValueError: a value is out of range.
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
            raise ValueError(f"{CONFIDENCE} needs several scales, not only {self.scales[0]:g}")
        if weights is not None and weights != CONFIDENCE:
            fitting = self.scales is not None and len(weights) == len(self.scales)
            if not fitting or any(weight < 0 for weight in weights) or not sum(weights) > 0:
                raise ValueError(f"each of the scales {self.scales} needs a nonnegative weight, not all 0, not {weights}")
        if self.tile_batch is not None and self.tile_batch < 1:
            raise ValueError(f"the tile batch must be at least 1, not {self.tile_batch}")


FAST = PredictionOptions(mirror=False, scales=(1.0,), step=0.75)

# Default factors for weights by confidence, for anatomy of 0.6 to 1.6 times its usual size.
SEARCHED = (0.64, 0.8, 1.0, 1.25, 1.5625)


@dataclass(frozen=True)
class Variants:
    """Variants of an image to average over: its reflections, and copies of other sizes.

    Raises:
        ValueError: there is no factor, or weights do not fit the factors.
    """

    mirror: bool = True  # whether to average over reflections along the plan's mirror axes
    scales: tuple[float, ...] = (1.0,)  # factors of the image's size; (1.0,) is the image alone
    weights: tuple[float, ...] | None = None  # nonnegative weights of the factors; None weights them equally
    by_confidence: bool = False  # whether weights are chosen for each image, see `inference.engine.confidence`

    def __post_init__(self) -> None:
        given = self._given
        if len(given) != len(self.scales) or any(weight < 0 for weight in given) or not sum(given) > 0:
            raise ValueError(f"each of the scales {self.scales} needs a nonnegative weight, not all 0, not {given}")

    @property
    def shares(self) -> tuple[float, ...]:
        """Weights of the factors, normalised to sum to 1."""
        return tuple(weight / sum(self._given) for weight in self._given)

    @property
    def _given(self) -> tuple[float, ...]:
        return (1.0,) * len(self.scales) if self.weights is None else self.weights


def choose_variants(model: Model, options: PredictionOptions) -> Variants:
    """Return the scales, weights and reflections of one model's prediction. Nothing else decides where they come from.

    The first of these sources that gives scales is used:

    1. `options.scales`: `--scales` of se_predict, else 1 with `--fast`;
    2. `SEARCHED`, if the weights are found by confidence;
    3. `scales.json` in the model folder: scales and weights that se_evaluate learned;
    4. 1.

    The weights are `options.scale_weights`, else those of `scales.json` if they belong to these scales, else equal.
    A file of se_select gives models and no scales.
    """
    asked, kept = options.scales, model.ensemble
    if options.scale_weights == CONFIDENCE:
        return Variants(options.mirror, asked or SEARCHED, by_confidence=True)
    if kept is not None and asked in (None, kept.scales) and options.scale_weights is None:
        return Variants(options.mirror, kept.scales, kept.weights)
    return Variants(options.mirror, asked or (1.0,), options.scale_weights)
