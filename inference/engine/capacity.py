"""How much work a device takes at a time: learned once where its memory runs out, and said once."""

import logging
from dataclasses import dataclass

import torch

logger = logging.getLogger(__name__)
TILE_BATCH = {"cuda": 4}  # tiles per forward pass; elsewhere one, which keeps memory low and CPUs busy all the same


@dataclass
class Capacity:
    """Shared by all volumes of a predictor, so that what did not fit once is not tried again. It only ever shrinks.

    Attributes:
        device: of the networks.
        tile_batch: tiles per forward pass.
        accumulate_on_host: sums over tiles lie in the host's memory, because the device's is too small.
    """

    device: torch.device
    tile_batch: int
    accumulate_on_host: bool = False

    @classmethod
    def of(cls, device: torch.device, tile_batch: int | None = None) -> "Capacity":
        """What is tried first on a device."""
        return cls(device, tile_batch or TILE_BATCH.get(device.type, 1))

    @property
    def sums_device(self) -> torch.device:
        """Where sums over tiles are kept."""
        return torch.device("cpu") if self.accumulate_on_host else self.device

    def shrink(self) -> bool:
        """Make do with less: half the tiles at a time, then sums in the host's memory. False where nothing is left to give up."""
        if self.tile_batch > 1:
            self.tile_batch //= 2
            logger.warning("%s ran out of memory; going on with %d tiles at a time", self.device, self.tile_batch)
            return True
        if not self.accumulate_on_host and self.device.type != "cpu":
            self.accumulate_on_host = True
            logger.warning("%s ran out of memory; going on with the sums over tiles in the host's memory", self.device)
            return True
        return False


def release_cached_memory(device: torch.device) -> None:
    """Give back what PyTorch keeps of a GPU's memory for later use."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
