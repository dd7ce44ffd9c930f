"""Tests do not depend on which of them ran before in the same process."""

import logging
from collections.abc import Iterator

import pytest

from tests.repository.test_imports import PACKAGES


@pytest.fixture(autouse=True)
def levels_of_loggers_come_back() -> Iterator[None]:
    """Commands that run within a test let their packages log everything; the next test must not see more for it."""
    before = {name: logging.getLogger(name).level for name in PACKAGES}
    yield
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)
