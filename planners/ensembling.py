"""Factors of test-time scale ensembling."""

from planners.decision import Decision


def choose_test_scales() -> Decision[tuple[float, ...]]:
    """The image as it is: a mean over sizes costs three times the time, and scored lower even where sizes vary (`docs/prediction.md`)."""
    remedy = "`se_predict --scale-weights confidence` is there for images whose structures have other sizes than in training"
    return Decision((1.0,), f"No test-time scale ensembling: at the sizes of training it did not pay; {remedy}.")
