"""Training: from prepared cases and a plan to weights, with patches, augmentation, loss, loop, checkpoints and validation."""

from typing import TYPE_CHECKING

from configs.named_parts import import_on_use

if TYPE_CHECKING:
    from trainers.augmentation.planned import Augmentation
    from trainers.augmentation.spatial import SpatialDraw
    from trainers.loop import Parts, Trainer
    from trainers.pipeline.options import RunOptions
    from trainers.pipeline.run import run_dataset
    from trainers.run import train

__all__ = ["Augmentation", "Parts", "RunOptions", "SpatialDraw", "Trainer", "run_dataset", "train"]

__getattr__ = import_on_use(
    __name__,
    {
        "Augmentation": "trainers.augmentation.planned",
        "Parts": "trainers.loop",
        "RunOptions": "trainers.pipeline.options",
        "SpatialDraw": "trainers.augmentation.spatial",
        "Trainer": "trainers.loop",
        "run_dataset": "trainers.pipeline.run",
        "train": "trainers.run",
    },
)
