"""Parts with one fault each, as users write them."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from configs.network import NetworkConfig
from tests.trainers.own_parts.sound import Augmentation, Loss, Network
from trainers.augmentation.spatial import SpatialDraw
from trainers.data.batches import Batch
from trainers.loop import Trainer


class MissingClass(Network):
    def __init__(self, config: NetworkConfig):
        super().__init__(config)
        self.only = nn.Conv3d(config.input_channels, config.output_channels - 1, 3, padding=1)


class HalfSize(Network):
    def forward(self, image: Tensor) -> Tensor:
        return super().forward(image)[..., ::2]


class Unbatched(Network):
    def forward(self, image: Tensor) -> Tensor:
        return super().forward(image)[0]


class InfiniteScores(Network):
    def forward(self, image: Tensor) -> Tensor:
        return super().forward(image) / torch.zeros(())


class NoGradient(Network):
    def forward(self, image: Tensor) -> Tensor:
        return super().forward(image).detach()


class ListInPrediction(Network):
    def forward(self, image: Tensor) -> Tensor:
        return [super().forward(image)]  # type: ignore[return-value]


class WrongChannels(Network):
    def __init__(self, config: NetworkConfig):
        super().__init__(config)
        self.only = nn.Conv3d(7, config.output_channels, 3, padding=1)


class CannotBeMade(Network):
    def __init__(self, config: NetworkConfig):
        raise KeyError("width")


class VectorLoss(Loss):
    def forward(self, scores: Any, labels: Tensor) -> Tensor:
        return super().forward(scores, labels)[None]


class NumberLoss(Loss):
    def forward(self, scores: Any, labels: Tensor) -> Tensor:
        return super().forward(scores, labels).item()  # type: ignore[return-value]


class NanLoss(Loss):
    def forward(self, scores: Any, labels: Tensor) -> Tensor:
        return super().forward(scores, labels) * float("nan")


class DetachedLoss(Loss):
    def forward(self, scores: Any, labels: Tensor) -> Tensor:
        return super().forward(scores, labels).detach()


class FailingLoss(Loss):
    def forward(self, scores: Any, labels: Tensor) -> Tensor:
        return nn.functional.cross_entropy(scores, labels)


class SquareRootLoss(Loss):
    """Finite, with an infinite gradient."""

    def forward(self, scores: Any, labels: Tensor) -> Tensor:
        finest = scores if isinstance(scores, Tensor) else scores[0]
        return (finest - finest.detach()).abs().sqrt().sum()


class CroppingAugmentation(Augmentation):
    def change_intensity(self, images: NDArray[np.float32], random: np.random.Generator) -> NDArray[np.float32]:
        return images[..., 1:]


class DoubleAugmentation(Augmentation):
    def change_intensity(self, images: NDArray[np.float32], random: np.random.Generator) -> NDArray[np.float32]:
        return images.astype(np.float64)  # type: ignore[return-value]


class NanAugmentation(Augmentation):
    def change_intensity(self, images: NDArray[np.float32], random: np.random.Generator) -> NDArray[np.float32]:
        return images * np.float32("nan")


class TupleAugmentation(Augmentation):
    def draw_spatial(self, random: np.random.Generator) -> SpatialDraw:
        return (None, ())  # type: ignore[return-value]


class FailingAugmentation(Augmentation):
    def change_intensity(self, images: NDArray[np.float32], random: np.random.Generator) -> NDArray[np.float32]:
        return random.gaussian(images)  # type: ignore[attr-defined, no-any-return]


class TwoResults(Network):
    """Right for a trainer that knows of the second result in training."""

    def forward(self, image: Tensor) -> Tensor:
        scores = super().forward(image)
        return {"scores": scores, "more": scores} if self.training else scores  # type: ignore[return-value]


class StepTrainer(Trainer):
    def _step(self, batch: Batch) -> float:
        return 0.0
