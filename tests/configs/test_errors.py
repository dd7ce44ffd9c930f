"""Faults are collected, told one a line, and survive the way back from a worker process."""

import pickle

import pytest

from configs.errors import Fault, InputError, raise_faults

SPACING = Fault("case_01", "the spacing is 0 mm", "Correct the header")
LABELS = Fault("case_02", "label 7 is not in dataset.json", "Add it")


def test_message_has_a_line_for_each_fault() -> None:
    error = InputError(SPACING, LABELS)
    assert error.faults == (SPACING, LABELS)
    assert str(error).splitlines() == [
        "case_01: the spacing is 0 mm. Correct the header.",
        "case_02: label 7 is not in dataset.json. Add it.",
    ]


def test_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(InputError(SPACING, LABELS)))
    assert isinstance(error, InputError)
    assert error.faults == (SPACING, LABELS)


def test_raise_faults_raises_all_or_nothing() -> None:
    raise_faults([])
    with pytest.raises(InputError) as caught:
        raise_faults(fault for fault in (SPACING, LABELS))
    assert caught.value.faults == (SPACING, LABELS)
