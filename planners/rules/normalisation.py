"""Choose the normalisation of each channel by its name and the dataset. Rules and constants are nnU-Net's (Isensee et al. 2021)."""

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
_MASK_BELOW = 0.75  # share of the image that remains after cropping; below, much of the rest is empty as well


def choose_normalisation(
    channels: Sequence[str], statistics: Sequence[IntensityStatistics], relative_size: float
) -> Decision[tuple[ChannelNormalisation, ...]]:
    """Choose a normalisation scheme for each channel from its foreground statistics, which are empty where no case has foreground.

    Channels `CT`, `noNorm` and `rescale_to_0_1` (in any case) have their own rule, all others are standardised. `relative_size` is the
    median share of an image that remains after cropping to nonzero.
    """
    chosen = [_choose(name, statistics[index] if statistics else None, relative_size) for index, name in enumerate(channels)]
    names: dict[str, list[str]] = {}
    for decision in chosen:
        names.setdefault(decision.reason, []).append(decision.value.channel)
    sentences = [f"{', '.join(alike)}: {reason}." for reason, alike in names.items()]
    return Decision(tuple(decision.value for decision in chosen), " ".join(sentences))


def _choose(name: str, statistics: IntensityStatistics | None, relative_size: float) -> Decision[ChannelNormalisation]:
    scheme: Normalisation = _BY_NAME.get(name.casefold(), "zscore")
    if scheme == "ct" and statistics is not None:
        reason = (
            f"clipped to {statistics.percentile_00_5:.4g} .. {statistics.percentile_99_5:.4g} and standardised by mean "
            f"{statistics.mean:.4g} and deviation {statistics.std:.4g} of the foreground of all cases, because CT numbers have a "
            "physical unit"
        )
        return Decision(ChannelNormalisation(channel=name, scheme=scheme, statistics=statistics), reason)
    if scheme == "ct":
        scheme, reason = (
            "zscore",
            "standardised image by image, because no case has foreground that shows the range of CT numbers",
        )
    elif scheme in ("none", "rescale"):
        reason = f"{'not normalised' if scheme == 'none' else 'mapped to 0 .. 1'}, as the name requests"
    elif relative_size < _MASK_BELOW:
        scheme = "zscore_in_mask"
        reason = (
            "standardised image by image inside the nonzero mask, because cropping to nonzero keeps "
            f"{relative_size:.0%} of the median image (below {_MASK_BELOW:.0%})"
        )
    else:
        reason = "standardised image by image, because intensities have no common unit"
    return Decision(ChannelNormalisation(channel=name, scheme=scheme), reason)
