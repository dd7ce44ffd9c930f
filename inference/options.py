"""How a prediction is made: what the user may choose between speed and accuracy."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PredictionOptions:
    """Sliding window and test-time ensembling.

    Attributes:
        mirror: average over reflections along the plan's mirror axes.
        scales: factors of scale ensembling; None takes the plan's, (1.0,) is none.
        step: largest distance of neighbouring tiles, as a share of the patch, in (0, 1].
        tile_batch: tiles per forward pass; None chooses by device.

    Raises:
        ValueError: a value out of range.
    """

    mirror: bool = True
    scales: tuple[float, ...] | None = None
    step: float = 0.5
    tile_batch: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.step <= 1:
            raise ValueError(f"the step must be above 0 and at most 1, not {self.step}")
        if self.scales is not None and not (self.scales and all(0 < factor <= 8 for factor in self.scales)):
            raise ValueError(f"scales must be one or more factors above 0 and at most 8, not {self.scales}")
        if self.tile_batch is not None and self.tile_batch < 1:
            raise ValueError(f"the tile batch must be at least 1, not {self.tile_batch}")


FAST = PredictionOptions(mirror=False, scales=(1.0,), step=0.75)
