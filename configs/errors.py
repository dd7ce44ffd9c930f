"""Errors that a user can act on: what is wrong, where, and what to do about it."""

import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


def counted(number: int, thing: str) -> str:
    """A number of things, as `1 case` or `2 cases`."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


def times(numbers: Iterable[float]) -> str:
    """Numbers as `40 x 56 x 40`, with at most four significant digits after rounding."""
    return " x ".join(f"{number:.4g}" if number < 1000 else f"{number:.0f}" for number in numbers)


DAMAGE = (  # what libraries raise where a file is damaged; some have more of their own
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
    """One thing that is wrong with what the user gave.

    Attributes:
        where: the case, file or option at fault.
        problem: the rule that is broken, with the value received.
        remedy: what to do about it.
    """

    where: str
    problem: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.where}: {self.problem}. {self.remedy}."


class SystemFault(Fault):
    """The system could not give what is there (a failing disk, no permission, too many open files): its content may be right."""


class InputError(ValueError):
    """Input that cannot be used, with every fault found. Commands print the faults and exit with code 2."""

    def __init__(self, *faults: Fault):
        self.faults = faults
        super().__init__("\n".join(str(fault) for fault in faults))

    def __reduce__(self) -> tuple[type["InputError"], tuple[Fault, ...]]:
        return type(self), self.faults  # the default would hand the joined message back as the only fault


def fault_of(error: BaseException, where: str, problem: str, remedy: str) -> Fault:
    """The fault that an error shows: a `SystemFault` where the system gave it, unless it says that there is no such file."""
    kind = SystemFault if isinstance(error, OSError) and not isinstance(error, FileNotFoundError) else Fault
    return kind(where, problem, remedy)


def is_of_system(error: InputError) -> bool:
    """Whether the system could not give something that is there: what may be left out where it is missing or wrong must not be then."""
    return any(isinstance(fault, SystemFault) for fault in error.faults)


def raise_faults(faults: Iterable[Fault]) -> None:
    """Raise one `InputError` with all faults; return where there is none."""
    found = tuple(faults)
    if found:
        raise InputError(*found)


@contextmanager
def collecting(faults: list[Fault]) -> Iterator[None]:
    """Add the faults of an `InputError` raised inside to the list, and go on behind the block: so that all are found at once."""
    try:
        yield
    except InputError as error:
        faults += error.faults
