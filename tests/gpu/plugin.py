"""Run tests on the stand-in GPU: `python -m pytest -p tests.gpu.plugin tests/gpu/on_standin`, in a process of its own.

The stand-in is loaded when this plugin is, before any test imports PyTorch. `tests/gpu/test_on_standin.py` does so in `make test`.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.gpu.standin.build import build, load

if TYPE_CHECKING:
    from tests.gpu.standin.ledger import Ledger

load(build())


@pytest.fixture
def gpu() -> Iterator["Ledger"]:
    """The stand-in for the time of a test, with its counts from zero."""
    from tests.gpu.standin.cuda import install
    from tests.gpu.standin.device import StandIn
    from tests.gpu.standin.ledger import LEDGER

    install()
    LEDGER.restart()
    with StandIn():
        yield LEDGER
    LEDGER.memory.restart()
