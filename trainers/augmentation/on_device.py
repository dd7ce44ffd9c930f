"""Augment a whole batch on the training device, with transforms drawn by the loading processes.

The loading processes draw the transforms and read the box around each patch. Here one `grid_sample` rotates, scales and mirrors all
patches of the batch, and then each patch gets its intensity transforms. Probabilities, ranges and order are those of
`trainers.augmentation.intensity`: the distributions are equal, the random numbers differ.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from trainers.augmentation.spatial import Triple, draw_factor, sample, sample_labels

_EPSILON = 1e-7
_VOXELS = (1, 2, 3)  # axes of (C, Z, Y, X)


@dataclass(frozen=True)
class IntensityDraw:
    """Intensity transforms drawn for one patch; those that are None or empty are not applied."""

    noise: tuple[float, int] | None = None  # standard deviation and seed
    blur: tuple[tuple[int, tuple[float, float, float]], ...] = ()  # channel and standard deviations (Z, Y, X) in voxels
    brightness: tuple[float, ...] | None = None  # factor of each channel
    contrast: tuple[float, ...] | None = None  # factor of each channel
    resolution: tuple[tuple[int, float], ...] = ()  # channels to coarsen, each with the share of the resolution that is kept
    inverted_gamma: tuple[float, ...] | None = None  # exponent of each channel
    gamma: tuple[float, ...] | None = None  # exponent of each channel


@dataclass(frozen=True)
class Pending:
    """Augmentation still to be applied to a batch of boxes that enclose the patches."""

    patch_size: Triple  # patch size (Z, Y, X) in voxels
    offsets: NDArray[np.float32]  # first voxel of each patch in its box (B, 3)
    matrices: NDArray[np.float32]  # linear maps (B, 3, 3), output to source voxels about the patch centres, with mirroring
    intensity: tuple[IntensityDraw, ...]  # intensity transforms of each patch; empty leaves intensities unchanged
    across: int | None = None  # axis of (Z, Y, X) along which the resolution is kept, see `spatial.flat_axis`
    masked_channels: tuple[int, ...] = ()  # channels whose zeros lie outside the body and stay zero


def finish(images: Tensor, labels: Tensor, pending: Pending) -> tuple[Tensor, Tensor]:
    """Augment a batch on its device.

    Boxes (B, C, *box) float32 become (B, C, *patch_size), and their class indices (B, *box) int16 become (B, *patch_size).
    """
    grid = _sampling_grid(labels.shape[1:], pending, images.device)
    patches = sample(images, grid)
    if pending.intensity:
        outside = {channel: patches[:, channel] == 0 for channel in pending.masked_channels}
        patches = apply_intensity(patches, pending.intensity, pending.across)
        for channel, mask in outside.items():
            patches[:, channel][mask] = 0
    return patches, sample_labels(labels, grid)


def _sampling_grid(box: Sequence[int], pending: Pending, device: torch.device) -> Tensor:
    """Return source positions (B, Z, Y, X, 3), ordered (x, y, z) and scaled to -1..1 over the box, as `grid_sample` expects."""
    size = torch.tensor(pending.patch_size, device=device, dtype=torch.float32)
    axes = [torch.arange(length, device=device, dtype=torch.float32) - (length - 1) / 2 for length in pending.patch_size]
    offsets = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)
    turned = torch.einsum("bij,zyxj->bzyxi", torch.as_tensor(pending.matrices, device=device), offsets)
    source = turned + (torch.as_tensor(pending.offsets, device=device) + (size - 1) / 2)[:, None, None, None]
    last = torch.tensor([max(length - 1, 1) for length in box], device=device, dtype=torch.float32)
    return (source * (2 / last) - 1).flip(-1)


def draw_intensity(random: Generator, channels: int) -> IntensityDraw:
    """Draw the intensity transforms of one patch."""

    def factors(limits: tuple[float, float]) -> tuple[float, ...]:
        return tuple(draw_factor(random, limits) for _ in range(channels))

    def chosen() -> list[int]:
        return [channel for channel in range(channels) if random.random() < 0.5]

    return IntensityDraw(
        noise=(random.uniform(0, 0.1), int(random.integers(2**62))) if random.random() < 0.1 else None,
        blur=tuple((channel, _widths(random)) for channel in chosen()) if random.random() < 0.2 else (),
        brightness=factors((0.75, 1.25)) if random.random() < 0.15 else None,
        contrast=factors((0.75, 1.25)) if random.random() < 0.15 else None,
        resolution=tuple((channel, random.uniform(0.5, 1)) for channel in chosen()) if random.random() < 0.25 else (),
        inverted_gamma=factors((0.7, 1.5)) if random.random() < 0.1 else None,
        gamma=factors((0.7, 1.5)) if random.random() < 0.3 else None,
    )


def apply_intensity(images: Tensor, draws: Sequence[IntensityDraw], across: int | None = None) -> Tensor:
    """Apply the transforms drawn for each of the image patches (B, C, Z, Y, X) float32 in place.

    The resolution is kept along the axis `across`, see `spatial.flat_axis`.
    """
    for image, draw in zip(images, draws, strict=True):
        if draw.noise is not None:
            generator = torch.Generator(image.device).manual_seed(draw.noise[1])
            image += draw.noise[0] * torch.randn(image.shape, generator=generator, device=image.device)
        for channel, widths in draw.blur:
            image[channel] = blur(image[channel], widths)
        if draw.brightness is not None:
            image *= _per_channel(draw.brightness, image)
        if draw.contrast is not None:
            image.copy_(stretch(image, _per_channel(draw.contrast, image)))
        for channel, share in draw.resolution:
            image[channel] = coarsen(image[channel], share, across)
        if draw.inverted_gamma is not None:
            image.copy_(-apply_gamma(-image, _per_channel(draw.inverted_gamma, image)))
        if draw.gamma is not None:
            image.copy_(apply_gamma(image, _per_channel(draw.gamma, image)))
    return images


def blur(volume: Tensor, widths: Sequence[float]) -> Tensor:
    """Blur (Z, Y, X) by Gaussians with standard deviations in voxels, cut off at four of them, mirrored at the border."""
    for axis, width in enumerate(widths):
        radius = min(int(4 * width + 0.5), volume.shape[axis] - 1)
        if radius:
            positions = torch.arange(-radius, radius + 1, device=volume.device, dtype=torch.float32)
            kernel = torch.exp(-0.5 * (positions / width) ** 2)
            lines = functional.pad(volume.movedim(axis, -1), (radius, radius), mode="reflect")
            shape = lines.shape
            smooth = functional.conv1d(lines.reshape(-1, 1, shape[-1]), (kernel / kernel.sum())[None, None])
            volume = smooth.reshape(*shape[:-1], -1).movedim(-1, axis)
    return volume


def stretch(image: Tensor, factor: Tensor) -> Tensor:
    """Scale the contrast of (C, Z, Y, X) about each channel's mean, clamped to the channel's range."""
    mean = image.mean(_VOXELS, keepdim=True)
    return ((image - mean) * factor + mean).clamp(image.amin(_VOXELS, keepdim=True), image.amax(_VOXELS, keepdim=True))


def coarsen(volume: Tensor, share: float, across: int | None) -> Tensor:
    """Downsample (Z, Y, X) by nearest neighbours and upsample it to its former size by linear interpolation."""
    sizes = [size if axis == across else max(1, round(size * share)) for axis, size in enumerate(volume.shape)]
    small = functional.interpolate(volume[None, None], sizes, mode="nearest-exact")
    return functional.interpolate(small, volume.shape, mode="trilinear")[0, 0]


def apply_gamma(image: Tensor, exponent: Tensor) -> Tensor:
    """Apply gamma to (C, Z, Y, X) in each channel's range scaled to 0..1, and restore its mean and standard deviation."""
    low = image.amin(_VOXELS, keepdim=True)
    span = image.amax(_VOXELS, keepdim=True) - low
    changed = ((image - low) / span.clamp_min(_EPSILON)) ** exponent * span + low
    factor = image.std(_VOXELS, keepdim=True) / changed.std(_VOXELS, keepdim=True).clamp_min(_EPSILON)
    return (changed - changed.mean(_VOXELS, keepdim=True)) * factor + image.mean(_VOXELS, keepdim=True)


def _widths(random: Generator) -> tuple[float, float, float]:
    z, y, x = random.uniform(0.5, 1.0, 3)
    return float(z), float(y), float(x)


def _per_channel(values: Sequence[float], image: Tensor) -> Tensor:
    return torch.tensor(values, device=image.device, dtype=image.dtype)[:, None, None, None]
