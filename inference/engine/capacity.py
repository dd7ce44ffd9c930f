"""The amount of work that a device takes at a time, reduced when its memory runs out."""

import logging
from dataclasses import dataclass

import torch

logger = logging.getLogger(__name__)
TILE_BATCH = {"cuda": 4}  # tiles per forward pass; one on other devices, which saves memory and still keeps CPUs busy


@dataclass
class Capacity:
    """Capacity of a device. All volumes of a predictor share it, so that a size that did not fit is not tried again."""

    device: torch.device  # device of the networks
    tile_batch: int  # tiles per forward pass
    accumulate_on_host: bool = False  # whether sums over tiles are kept in host memory, because device memory is too small

    @classmethod
    def of(cls, device: torch.device, tile_batch: int | None = None) -> "Capacity":
        """Return the initial capacity of a device."""
        return cls(device, tile_batch or TILE_BATCH.get(device.type, 1))

    @property
    def sums_device(self) -> torch.device:
        """Return the device that holds the sums over tiles."""
        return torch.device("cpu") if self.accumulate_on_host else self.device

    def shrink(self) -> bool:
        """Halve the tile batch, or else move the sums to host memory. Return False if nothing is left to reduce."""
        if self.tile_batch > 1:
            self.tile_batch //= 2
            logger.warning("%s ran out of memory; continuing with %d tiles at a time", self.device, self.tile_batch)
            return True
        if not self.accumulate_on_host and self.device.type != "cpu":
            self.accumulate_on_host = True
            logger.warning("%s ran out of memory; continuing with the sums over tiles in host memory", self.device)
            return True
        return False


def release_cached_memory(device: torch.device) -> None:
    """Release the GPU memory that PyTorch has cached."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
