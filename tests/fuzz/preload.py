"""Import all modules once, in the server process that forks the processes of readers."""

import pytest  # noqa: F401

import tests.fuzz.targets  # noqa: F401
from tests.faults.commands import import_everything

import_everything()
