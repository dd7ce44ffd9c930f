"""Adapt tensors of another network to a network with other channels, labels or kernels. Each function returns None where it cannot."""

from collections.abc import Sequence

import torch
from torch import Tensor

from configs.dataset import BACKGROUND
from configs.network import Axes

Adapted = tuple[Tensor, str]  # the tensor, and in words how it was made; "" where nothing was changed


def adapt_stem(theirs: Tensor, fresh: Tensor, images_before: int | None = None, images_now: int | None = None) -> Adapted | None:
    """Adapt the weights (outputs, inputs, ...) of the first convolution to another number of inputs.

    Inputs are repeated in turn and divided by the ratio of the numbers, so that equal inputs give the response of the source. In the second
    network of a cascade, images are `images_before` and `images_now` of the inputs, the first ones. The others show a segmentation: where
    both networks have as many, they are taken, otherwise they start afresh. None stands for all inputs.
    """
    before, now = theirs.shape, fresh.shape
    if len(before) < 3 or len(before) != len(now) or before[0] != now[0] or before[2:] != now[2:]:
        return None
    first, last = images_before or before[1], images_now or now[1]
    if (first, before[1]) == (last, now[1]):
        return theirs, ""
    places = torch.arange(last) % first
    shares = torch.bincount(places, minlength=first)[places].reshape(1, -1, *[1] * (len(before) - 2))
    is_same = before[1] - first == now[1] - last
    made = torch.cat([theirs[:, places] / shares, theirs[:, first:] if is_same else fresh[:, last:]], 1)
    ways = [f"inputs repeated from {first} to {last}"] if first != last else []
    return made, ", ".join([*ways, *(["inputs of the first segmentation fresh"] if now[1] > last and not is_same else [])])


def adapt_head(theirs: Tensor, fresh: Tensor, before: Sequence[str] | None, now: Sequence[str] | None) -> Adapted | None:
    """Adapt the weights or offsets (outputs, ...) of class scores to other labels: rows of shared names are taken, others stay fresh."""
    if theirs.shape[1:] != fresh.shape[1:]:
        return None
    are_named = before is not None and now is not None and len(before) == len(theirs) and len(now) == len(fresh)
    if before is None or now is None or not are_named or tuple(before) == tuple(now):
        return (theirs, "") if theirs.shape == fresh.shape else None
    shared = [name for name in now if name in before]
    if shared in ([], [BACKGROUND]):  # a background that is sure of itself would keep new labels from being found
        return fresh, "all outputs fresh, as no label is shared"
    made = fresh.clone()
    for name in shared:
        made[list(now).index(name)] = theirs[list(before).index(name)]
    return made, f"outputs of {', '.join(shared)}"


def adapt_kernel(theirs: Tensor, fresh: Tensor) -> Adapted | None:
    """Adapt a kernel (outputs, inputs, Z, Y, X): three taps along an axis become their sum, one tap the middle one of three."""
    before, now = theirs.shape, fresh.shape
    if len(before) != 5 or len(now) != 5 or before[:2] != now[:2]:
        return None
    if any({one, other} != {1, 3} for one, other in zip(before[2:], now[2:], strict=True) if one != other):
        return None
    made = theirs
    for axis in (2, 3, 4):
        if now[axis] == 1 < before[axis]:
            made = made.sum(axis, keepdim=True)
        elif before[axis] == 1 < now[axis]:
            empty = torch.zeros_like(made)
            made = torch.cat([empty, made, empty], axis)
    return made, f"kernels of {' x '.join(map(str, before[2:]))}"


def turn_kernel(theirs: Tensor, before: Axes, now: Axes) -> Tensor:
    """Return a kernel (outputs, inputs, three axes) with its axes in another order; other tensors stay.

    `before` and `now` have, for each axis of the kernel, the number of the image's axis that it lies along.
    """
    return theirs if theirs.ndim != 5 else theirs.permute(0, 1, *(2 + before.index(axis) for axis in now))
