"""What a device holds and computes at a time: less when its memory runs out, and in a wider number type where numbers overflow."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

import torch

from configs.errors import Fault, InputError
from inference.device import DeviceMemoryError, has_bfloat16, is_out_of_memory, reason_of

logger = logging.getLogger(__name__)
T = TypeVar("T")
TILE_BATCH = {"cuda": 4}  # tiles per forward pass; one on other devices, which saves memory and still keeps CPUs busy


class ScoresNotFiniteError(RuntimeError):
    """The networks' scores are not finite numbers."""


@dataclass
class Capacity:
    """Capacity of a device. All volumes of a predictor share it, so that what did not fit is not tried again.

    Attributes:
        device: device of the networks.
        tile_batch: tiles per forward pass.
        volumes_on_host: whether images, sums over tiles and labels are in host memory, because device memory is too small.
        half: half-precision type in which networks compute; None for float32.
    """

    device: torch.device
    tile_batch: int
    volumes_on_host: bool = False
    half: torch.dtype | None = None

    @classmethod
    def of(cls, device: torch.device, tile_batch: int | None = None) -> "Capacity":
        """Return the initial capacity of a device."""
        return cls(device, tile_batch or TILE_BATCH.get(device.type, 1), half=first_half(device))

    @property
    def volumes_device(self) -> torch.device:
        """Device that holds whole volumes."""
        return torch.device("cpu") if self.volumes_on_host else self.device

    def halve_tiles(self) -> bool:
        """Halve the tile batch. Return False if it is 1 already."""
        if self.tile_batch == 1:
            return False
        self.tile_batch //= 2
        logger.warning("%s ran out of memory; continuing with %d tiles at a time", self.device, self.tile_batch)
        return True


def within(shared: Capacity, attempt: Callable[[Capacity], T], where: str) -> T:
    """Return what an attempt returns, which is repeated with less on the device, or in a wider number type, where that is necessary.

    An attempt gets a capacity of its own, since volumes must not change their device on the way; what it learned remains known.

    Args:
        shared: capacity that all attempts share.
        attempt: function of a capacity; it begins anew each time.
        where: name of the image in messages.

    Raises:
        DeviceMemoryError: memory runs out even for a single tile.
        InputError: scores are not finite even in float32.
    """
    while True:
        own = replace(shared)
        needs_room = False
        try:
            return attempt(own)
        except ScoresNotFiniteError as error:
            _widen(shared, own, where, error)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if own.volumes_on_host or own.device.type == "cpu":
                raise DeviceMemoryError(_too_small(own.device, where, error)) from error
            needs_room = True
        finally:
            shared.tile_batch = min(shared.tile_batch, own.tile_batch)
        if needs_room:  # only here the error, whose traceback holds tensors of the device, is gone
            shared.volumes_on_host = True
            logger.warning("%s ran out of memory; continuing with whole volumes in host memory", shared.device)
            release_cached_memory(shared.device)


def first_half(device: torch.device) -> torch.dtype | None:
    """Return the type in which networks compute at first: float16 on GPUs, which is more precise than bfloat16; None for float32.

    Where numbers overflow its range, scores become NaN, which `within` answers with the types that follow.
    """
    return torch.float16 if device.type == "cuda" else None


def _widen(shared: Capacity, own: Capacity, where: str, error: ScoresNotFiniteError) -> None:
    """Choose a number type of wider range."""
    if own.half is None:
        remedy = "Train again or check the weights: the model's numbers overflow"
        raise InputError(Fault(where, "the networks' scores are not finite numbers", remedy)) from error
    wider = torch.bfloat16 if own.half == torch.float16 and has_bfloat16(own.device) else None
    names = [str(one or torch.float32).removeprefix("torch.") for one in (own.half, wider)]
    logger.warning("%s: scores overflow in %s; continuing in %s", where, *names)
    shared.half = wider


def _too_small(device: torch.device, where: str, error: BaseException) -> str:
    what = "this computer" if device.type == "cpu" else f"{device}"
    remedy = "Close other programs that take memory"
    if device.type != "cpu":
        remedy += ", or use --device cpu or a GPU with more memory"
    return f"{where}: {what} has too little memory for this image ({reason_of(error)}). {remedy}"


def release_cached_memory(device: torch.device) -> None:
    """Release the GPU memory that PyTorch has cached."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
