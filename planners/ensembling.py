"""Factors of test-time scale ensembling, from the spread of structure sizes."""

from planners.decision import Decision

_NARROW = 0.4  # octaves
_FACTORS = (0.8, 1.0, 1.25)


def choose_test_scales(spread: Decision[float]) -> Decision[tuple[float, ...]]:
    """The image as it is where sizes hardly vary; else also smaller and larger, at three times the time."""
    if spread.value < _NARROW:
        return Decision((1.0,), f"No test-time scale ensembling: {spread.reason}, below {_NARROW}.")
    return Decision(_FACTORS, f"Test-time scales {', '.join(f'{factor:g}' for factor in _FACTORS)}: {spread.reason}.")
