"""How each channel is normalised, by its name and the dataset. Rules and constants are nnU-Net's (Isensee et al. 2021)."""

from collections.abc import Sequence

from configs.fingerprint import IntensityStatistics
from configs.plan import ChannelNormalisation, Normalisation
from planners.decision import Decision

_BY_NAME: dict[str, Normalisation] = {
    "ct": "ct",
    "nonorm": "none",
    "rescale_to_0_1": "rescale",
    "rescale_0_1": "rescale",
    "zscore": "zscore",
}
_MASK_BELOW = 0.75  # of the image kept by the crop: then much of the rest is empty as well


def choose_normalisation(
    channels: Sequence[str], statistics: Sequence[IntensityStatistics], relative_size: float
) -> tuple[Decision[ChannelNormalisation], ...]:
    """One decision for each channel.

    Args:
        channels: names; `CT`, `noNorm` and `rescale_to_0_1` (in any case) have their own rule, all others are standardised.
        statistics: of each channel's foreground; empty where there is none.
        relative_size: median share of an image that the crop to nonzero keeps.
    """
    return tuple(_choose(name, statistics[index] if statistics else None, relative_size) for index, name in enumerate(channels))


def _choose(name: str, statistics: IntensityStatistics | None, relative_size: float) -> Decision[ChannelNormalisation]:
    scheme: Normalisation = _BY_NAME.get(name.casefold(), "zscore")
    if scheme == "ct" and statistics is not None:
        reason = (
            f"Channel {name} is clipped to {statistics.percentile_00_5:.4g} .. {statistics.percentile_99_5:.4g} and standardised "
            f"by mean {statistics.mean:.4g} and deviation {statistics.std:.4g}, those of the foreground of all cases, as CT "
            "numbers are physical."
        )
        return Decision(ChannelNormalisation(channel=name, scheme=scheme, statistics=statistics), reason)
    if scheme == "ct":
        scheme, reason = (
            "zscore",
            f"Channel {name} is standardised image by image, as no case has foreground to learn CT ranges from.",
        )
    elif scheme in ("none", "rescale"):
        reason = f"Channel {name} is {'left as it is' if scheme == 'none' else 'mapped to 0 .. 1'}, as its name asks."
    elif relative_size < _MASK_BELOW:
        scheme = "zscore_in_mask"
        reason = (
            f"Channel {name} is standardised image by image inside its nonzero mask, as the crop to nonzero keeps "
            f"{relative_size:.0%} of the median image (below {_MASK_BELOW:.0%})."
        )
    else:
        reason = f"Channel {name} is standardised image by image, as its intensities have no common unit."
    return Decision(ChannelNormalisation(channel=name, scheme=scheme), reason)
