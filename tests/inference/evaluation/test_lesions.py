"""Detection of pieces, against an independent implementation."""

import math

import numpy as np
import pytest
from skimage.measure import label as skimage_label

from inference.evaluation.metrics import Detection, detect_lesions


@pytest.mark.parametrize("seed", range(5))
def test_pieces_agree_with_scikit_image(seed: int) -> None:
    random = np.random.default_rng(seed)
    predicted, reference = random.random((2, 12, 14, 16)) > 0.97
    reference |= np.roll(predicted, 1, 0) & (random.random(predicted.shape) > 0.5)
    pieces, true_pieces = (skimage_label(mask, connectivity=3) for mask in (predicted, reference))
    detected = sum(bool((predicted & (true_pieces == index)).any()) for index in range(1, true_pieces.max() + 1))
    false = sum(not (reference & (pieces == index)).any() for index in range(1, pieces.max() + 1))
    found = detect_lesions(predicted, reference)
    assert found == Detection(detected, true_pieces.max() - detected, false)
    assert found.f1 == pytest.approx(2 * detected / (2 * detected + found.missed + false))


def test_nothing_and_something() -> None:
    empty, full = np.zeros((4, 4, 4), bool), np.ones((4, 4, 4), bool)
    assert math.isnan(detect_lesions(empty, empty).f1)
    assert detect_lesions(empty, full) == Detection(0, 1, 0) and detect_lesions(full, empty) == Detection(0, 0, 1)
    assert detect_lesions(full, full).f1 == 1
    with pytest.raises(ValueError, match="one shape"):
        detect_lesions(empty, empty[1:])
