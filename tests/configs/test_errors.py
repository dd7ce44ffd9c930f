"""Faults are collected, told one a line, and survive the way back from a worker process."""

import pickle

import pytest

from configs.errors import Fault, InputError, fault_of, is_of_system, raise_faults
from configs.files import read_json

SPACING = Fault("case_01", "the spacing is 0 mm", "Correct the header")
LABELS = Fault("case_02", "label 7 is not in dataset.json", "Add it")


def test_message_has_a_line_for_each_fault() -> None:
    error = InputError(SPACING, LABELS)
    assert error.faults == (SPACING, LABELS)
    assert str(error).splitlines() == [
        "case_01: the spacing is 0 mm. Correct the header.",
        "case_02: label 7 is not in dataset.json. Add it.",
    ]


def test_a_fault_is_one_line_whatever_a_file_holds() -> None:
    fault = Fault("dataset.json, labels.a\nb", "the name holds \x1b[31m and a tab\t", "Rename the label äöü")
    assert str(fault) == r"dataset.json, labels.a\nb: the name holds \x1b[31m and a tab\t. Rename the label äöü."


def test_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(InputError(SPACING, LABELS)))
    assert isinstance(error, InputError)
    assert error.faults == (SPACING, LABELS)


def test_raise_faults_raises_all_or_nothing() -> None:
    raise_faults([])
    with pytest.raises(InputError) as caught:
        raise_faults(fault for fault in (SPACING, LABELS))
    assert caught.value.faults == (SPACING, LABELS)


def test_what_the_system_cannot_give_is_told_from_what_is_wrong(tmp_path) -> None:
    where = ("plan.json", "it cannot be read", "Look")
    for error, expected in (
        (PermissionError(13, "no"), True),
        (OSError(5, "no"), True),
        (FileNotFoundError(2, "no"), False),
        (ValueError(), False),
    ):
        fault = fault_of(error, *where)
        assert is_of_system(InputError(Fault("a", "b", "c"), fault)) is expected and str(fault) == str(Fault(*where))
        with pytest.raises(InputError) as raised:  # also where it was collected with others and raised again
            raise_faults([fault])
        assert is_of_system(raised.value) is expected
    with pytest.raises(InputError) as raised:
        read_json(tmp_path)
    assert is_of_system(raised.value)
    with pytest.raises(InputError) as raised:
        read_json(tmp_path / "none")
    assert not is_of_system(raised.value)
