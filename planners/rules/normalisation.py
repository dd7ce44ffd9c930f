"""Choose the normalisation of each channel by its name and the dataset. Rules and constants are nnU-Net's (Isensee et al. 2021)."""

import re
from collections.abc import Sequence

from configs.dataset import titles
from configs.errors import Fault, InputError
from configs.fingerprint import IntensityStatistics
from configs.plan import NORMALISATIONS, ChannelNormalisation, Normalisation
from planners.decision import Decision

_BY_NAME = {name: NORMALISATIONS[name] for name in ("ct", "nonorm", "rescale_to_0_1", "rescale_0_1", "rgb_to_0_1", "zscore")}
_WITHOUT_STATISTICS = {"none": "not normalised", "rescale": "mapped to 0 .. 1", "rgb": "divided by 255"}
_MASK_BELOW = 0.75  # share of the image that remains after cropping; below, much of the rest is empty as well
_NARROWEST = 1e-3  # width of a window, and 1e-3 of it the smallest deviation, as shares of the largest intensity in it
_OF_CT = ("ct", "cta", "ctp", "cect", "ncct", "cbct", "dect", "ldct", "hrct", "petct", "hu", "hounsfield")
_LOOKS_LIKE: tuple[tuple[str, Normalisation], ...] = (  # patterns of names without signs, and what they resemble
    ("nonorm|^none$", "none"),
    ("rescale|to01$|^minmax", "rescale"),
    ("zscore", "zscore"),
    ("computedtomography", "ct"),
)


def choose_normalisation(
    channels: Sequence[str],
    statistics: Sequence[IntensityStatistics],
    relative_size: float,
    stated: Sequence[str | None] | None = None,
) -> Decision[tuple[ChannelNormalisation, ...]]:
    """Choose a normalisation scheme for each channel from its foreground statistics, which are empty where no case has foreground.

    Channels `CT`, `noNorm` and `rescale_to_0_1` (in any case) have their own rule, all others are standardised. `relative_size` is the
    median share of an image that remains after cropping to nonzero. `stated` has the user's scheme of each channel, a name of
    `NORMALISATIONS`; None, for one channel or all, takes the rule of the name.

    Raises:
        InputError: the number of stated schemes differs from the number of channels.
    """
    if stated is not None and len(stated) != len(channels):
        problem = f"{len(stated)} schemes for {len(channels)} channels ({', '.join(channels)})"
        raise InputError(Fault("--normalisation", problem, "Give one scheme for each channel"))
    chosen = [
        _choose(name, statistics[index] if statistics else None, relative_size, stated[index] if stated else None)
        for index, name in enumerate(channels)
    ]
    names: dict[str, list[str]] = {}
    for decision, title in zip(chosen, titles(channels), strict=True):
        names.setdefault(decision.reason, []).append(title)
    sentences = [f"{', '.join(alike)}: {reason}." for reason, alike in names.items()]
    return Decision(tuple(decision.value for decision in chosen), " ".join(sentences))


def resembling_names(schemes: Sequence[ChannelNormalisation], stated: Sequence[str | None] | None = None) -> list[Fault]:
    """Return a warning for each channel whose name resembles that of a scheme, unless the user stated its scheme."""
    names = [scheme.channel for scheme in schemes]
    return [
        Fault(
            f"channel `{title}`",
            f"the name resembles the normalisation `{resembled}`, but is not its name, so `{scheme.scheme}` is taken",
            "State what you want with --normalisation, or under `normalisation` in `dataset.json`",
        )
        for index, (title, scheme) in enumerate(zip(titles(names), schemes, strict=True))
        if not (stated and stated[index]) and (resembled := resembled_scheme(scheme.channel))
    ]


def resembled_scheme(name: str) -> Normalisation | None:
    """Return the scheme that a channel's name resembles without being the name of its rule, or None."""
    if name.casefold() in _BY_NAME:
        return None
    words = [word.rstrip("0123456789") for word in re.split(r"[\W_]+", name.casefold())]
    if any(word in _OF_CT for word in words):
        return "ct"
    joined = re.sub(r"[\W_]+", "", name.casefold())
    return next((scheme for pattern, scheme in _LOOKS_LIKE if re.search(pattern, joined)), None)


def _choose(
    name: str, statistics: IntensityStatistics | None, relative_size: float, stated: str | None
) -> Decision[ChannelNormalisation]:
    scheme = _BY_NAME.get(name.casefold(), "zscore") if stated is None else NORMALISATIONS[stated.casefold()]
    if scheme == "ct":
        return _choose_ct(name, statistics)
    if scheme in _WITHOUT_STATISTICS:
        reason = f"{_WITHOUT_STATISTICS[scheme]}, as {'the name requests' if stated is None else 'requested'}"
    elif stated is not None:
        reason = f"standardised image by image{' inside the nonzero mask' * (scheme == 'zscore_in_mask')}, as requested"
    elif relative_size < _MASK_BELOW:
        scheme = "zscore_in_mask"
        reason = (
            "standardised image by image inside the nonzero mask, because cropping to nonzero keeps "
            f"{relative_size:.0%} of the median image (below {_MASK_BELOW:.0%})"
        )
    else:
        reason = "standardised image by image, because intensities have no common unit"
    resembled = resembled_scheme(name) if stated is None else None
    if resembled is not None:
        reason += f" (the name resembles the normalisation `{resembled}`, but is not its name)"
    return Decision(ChannelNormalisation(channel=name, scheme=scheme), reason)


def _choose_ct(name: str, statistics: IntensityStatistics | None) -> Decision[ChannelNormalisation]:
    problem = "no case has foreground that shows the range of CT numbers" if statistics is None else _degenerate(statistics)
    if statistics is None or problem is not None:
        return Decision(ChannelNormalisation(channel=name, scheme="zscore"), f"standardised image by image, because {problem}")
    reason = (
        f"clipped to {statistics.percentile_00_5:.4g} .. {statistics.percentile_99_5:.4g} and standardised by mean "
        f"{statistics.mean:.4g} and deviation {statistics.std:.4g} of the foreground of all cases, because CT numbers have a "
        "physical unit"
    )
    return Decision(ChannelNormalisation(channel=name, scheme="ct", statistics=statistics), reason)


def _degenerate(statistics: IntensityStatistics) -> str | None:
    """Return why clipping to the window would leave next to nothing of an image, or None."""
    low, high = statistics.percentile_00_5, statistics.percentile_99_5
    smallest = _NARROWEST * max(abs(low), abs(high))
    if high - low <= smallest:
        return (
            f"the foreground of all cases lies within {low:.6g} .. {high:.6g} (0.5th and 99.5th percentile), and clipping to this window "
            "would make images constant"
        )
    if statistics.std <= _NARROWEST * smallest:
        return f"the foreground of all cases has the deviation {statistics.std:.3g}, by which images cannot be divided"
    return None
