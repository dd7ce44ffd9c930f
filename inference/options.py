"""Options of a prediction, which trade speed for accuracy."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from configs.plan import Average
from inference.model import Model

Search = Literal["auto", "always", "never"]


@dataclass(frozen=True)
class PredictionOptions:
    """Options of sliding window and test-time ensembling.

    Attributes:
        mirror: whether to average over reflections along the plan's mirror axes.
        search: whether to search the size of the anatomy in each image, see `inference.sizes`: `auto` where validation cases show
            that it pays.
        scales: factors of the image's size to average over instead; None leaves the size to the search.
        scale_weights: weights of the given `scales`; None weighs them equally.
        step: largest distance between neighbouring tiles, as a share of the patch, in (0, 1].
        tile_batch: tiles per forward pass; None chooses by device.
        average: quantity that is averaged over folds, scales and models and resampled to the image: `probabilities`, or `logits` as in
            nnU-Net. None leaves it to the plan, and is `probabilities` for several models.

    Raises:
        ValueError: a value is out of range.
    """

    mirror: bool = True
    search: Search = "auto"
    scales: tuple[float, ...] | None = None
    scale_weights: tuple[float, ...] | None = None
    step: float = 0.5
    tile_batch: int | None = None
    average: Average | None = None

    def __post_init__(self) -> None:
        if not 0 < self.step <= 1:
            raise ValueError(f"the step must be above 0 and at most 1, not {self.step}")
        if self.scales is not None and not (self.scales and all(0 < factor <= 8 for factor in self.scales)):
            raise ValueError(f"scales must be one or more factors above 0 and at most 8, not {self.scales}")
        if self.search not in get_args(Search):
            raise ValueError(f"the search must be one of {', '.join(get_args(Search))}, not {self.search}")
        if self.search == "always" and self.scales is not None:
            raise ValueError("either the size is searched or scales are given, not both")
        weights = self.scale_weights
        if weights is not None:
            fitting = self.scales is not None and len(weights) == len(self.scales)
            if not fitting or any(weight < 0 for weight in weights) or not sum(weights) > 0:
                raise ValueError(f"each of the scales {self.scales} needs a nonnegative weight, not all 0, not {weights}")
        if self.tile_batch is not None and self.tile_batch < 1:
            raise ValueError(f"the tile batch must be at least 1, not {self.tile_batch}")


FAST = PredictionOptions(mirror=False, search="never", step=0.75)


@dataclass(frozen=True)
class Variants:
    """Variants of an image to average over: its reflections, and copies of other sizes.

    Raises:
        ValueError: there is no factor, or weights do not fit the factors.
    """

    mirror: bool = True  # whether to average over reflections along the plan's mirror axes
    scales: tuple[float, ...] = (1.0,)  # factors of the image's size; (1.0,) is the image alone
    weights: tuple[float, ...] | None = None  # nonnegative weights of the factors; None weights them equally

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

    @classmethod
    def of(cls, options: PredictionOptions) -> "Variants":
        """Return the variants before any size is searched: the given scales, or the image alone."""
        return cls(options.mirror, options.scales or (1.0,), options.scale_weights)


def searches(model: Model, options: PredictionOptions) -> bool:
    """Return whether the size of the anatomy is searched with this model. Nothing else decides it.

    Given scales exclude the search. Otherwise `options.search` forces or forbids it, or leaves it to the model's calibration, which
    knows from validation cases whether it pays; a model without calibration is not searched.
    """
    if options.scales is not None or options.search == "never":
        return False
    return options.search == "always" or (model.calibration is not None and model.calibration.searches)


def average_of(models: Sequence[Model], options: PredictionOptions) -> Average:
    """Return the quantity that is averaged: the given one, or that of the model's plan; several models average their probabilities."""
    if options.average is not None:
        return options.average
    return models[0].plan.configuration.average if len(models) == 1 else "probabilities"
