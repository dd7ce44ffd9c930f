"""Imports everything once, in the process from which the processes of readers are forked."""

import pytest  # noqa: F401

import tests.fuzz.targets  # noqa: F401
from tests.faults.commands import import_everything

import_everything()
