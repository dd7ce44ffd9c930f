"""Errors that users can correct: what is wrong, where, and the remedy."""

import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


def counted(number: int, thing: str) -> str:
    """Return a number of things, such as `1 case` or `2 cases`."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


def times(numbers: Iterable[float]) -> str:
    """Return numbers such as `40 x 56 x 40`: four significant digits below 1000, whole numbers above."""
    return " x ".join(f"{number:.4g}" if number < 1000 else f"{number:.0f}" for number in numbers)


def listed(names: Iterable[object], most: int = 10) -> str:
    """Return names separated by commas, and beyond `most` of them only how many more there are."""
    words = list(map(str, names))
    return ", ".join(words[:most]) + (f" and {len(words) - most} more" if len(words) > most else "")


def printable(text: str) -> str:
    """Return a text as one line that can be printed, whatever control characters and invalid letters a name in it may have."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


DAMAGE = (  # errors that libraries raise for damaged files, apart from their own
    OSError,
    EOFError,
    RuntimeError,
    ValueError,
    ArithmeticError,
    MemoryError,
    LookupError,
    TypeError,
    struct.error,
)


@dataclass(frozen=True)
class Fault:
    """One fault of the user's input.

    Attributes:
        where: case, file or option at fault.
        problem: broken rule, with the value received.
        remedy: advice for the user.
    """

    where: str
    problem: str
    remedy: str

    def __str__(self) -> str:
        return printable(f"{self.where}: {self.problem}. {self.remedy}.")

    def within(self, where: str) -> "Fault":
        """Return the fault with what it belongs to named first, such as the case of a file."""
        return Fault(f"{where}, {self.where}", self.problem, self.remedy)


class SystemFault(Fault):
    """A file that the system cannot read (failing disk, no permission, too many open files), although its content may be correct."""


class InputError(ValueError):
    """Unusable input, with all faults that were found. Commands print the faults and exit with code 2."""

    def __init__(self, *faults: Fault):
        self.faults = faults
        super().__init__("\n".join(str(fault) for fault in faults))

    def __reduce__(self) -> tuple[type["InputError"], tuple[Fault, ...]]:
        return type(self), self.faults  # the default would make the joined message the only fault


def fault_of(error: BaseException, where: str, problem: str, remedy: str) -> Fault:
    """Return the fault for an error, which is a `SystemFault` for an `OSError` other than a missing file."""
    kind = SystemFault if isinstance(error, OSError) and not isinstance(error, FileNotFoundError) else Fault
    return kind(where, problem, remedy)


def is_of_system(error: InputError) -> bool:
    """Return whether the system cannot read an existing file; such a file must not be skipped as if it were missing or wrong."""
    return any(isinstance(fault, SystemFault) for fault in error.faults)


def raise_faults(faults: Iterable[Fault]) -> None:
    """Raise one `InputError` with all faults, if there are any."""
    found = tuple(faults)
    if found:
        raise InputError(*found)


@contextmanager
def collecting(faults: list[Fault]) -> Iterator[None]:
    """Add the faults of an `InputError` in the block to the list and continue after the block, so that all faults are found at once."""
    try:
        yield
    except InputError as error:
        faults += error.faults


@contextmanager
def tolerating() -> Iterator[list[Fault]]:
    """Yield a list that gets the faults of an `InputError` in the block, and continue after the block.

    It serves files without which the work can go on. A file that the system cannot read must not count as missing or wrong, so that
    such an error is raised.
    """
    faults: list[Fault] = []
    try:
        yield faults
    except InputError as error:
        if is_of_system(error):
            raise
        faults += error.faults
