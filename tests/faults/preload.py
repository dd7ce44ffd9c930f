"""Import all modules once, in the server process that forks the processes of tests."""

import pytest  # noqa: F401

import tests.fuzz.targets
import tests.trainers.balls  # noqa: F401
from tests.faults.commands import import_everything

import_everything()
