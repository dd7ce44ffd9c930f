"""Prepared cases and a plan to weights: patches, augmentation, loss, the loop, checkpoints, validation."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainers.run import train

__all__ = ["train"]


def __getattr__(name: str) -> Any:
    """Import `train` when it is first used: the command answers `--help` without numpy and torch."""
    if name == "train":
        from importlib import import_module

        return import_module("trainers.run").train
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
