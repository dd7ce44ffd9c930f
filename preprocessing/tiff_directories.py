"""The chain of directories in a TIFF file, one for each slice, followed before a library does: it must end.

A directory is a number of entries, the entries, and where the next directory lies (0: nowhere). Format: TIFF 6.0, section 2; in
BigTIFF (version 43) numbers and places have eight bytes and entries twenty.
"""

from pathlib import Path
from typing import BinaryIO

_ORDERS = {b"II": "little", b"MM": "big"}


def check_directories(path: Path) -> None:
    """Raise where the directories run in a circle, overlap so that they take more than the file, or lie outside of it.

    Raises:
        ValueError: they do, or the file does not begin as a TIFF file.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        order = _ORDERS.get(file.read(2))
        if order is None:
            raise ValueError("it does not begin as a TIFF file")
        version = _number(file, 2, order)
        if version not in (42, 43):
            raise ValueError(f"it is of the unknown TIFF version {version}")
        is_big = version == 43
        _follow(file, 16 if is_big else 8, size, is_big, order)


def _follow(file: BinaryIO, head: int, size: int, is_big: bool, order: str) -> None:
    """From the first directory, whose place ends the head of the file, to the last."""
    width, entry_bytes, number_bytes = (8, 20, 8) if is_big else (4, 12, 2)
    file.seek(head - width)
    place, taken = _number(file, width, order), 0
    while place:
        file.seek(place)
        length = number_bytes + _number(file, number_bytes, order) * entry_bytes + width
        taken += length
        if place + length > size + width:  # some writers leave the last place out
            raise ValueError(f"a directory of {length} bytes at {place} lies outside of its {size} bytes")
        if taken > size:
            raise ValueError(f"its directories run in a circle: they take more than its {size} bytes")
        file.seek(place + length - width)
        place = _number(file, width, order)


def _number(file: BinaryIO, width: int, order: str) -> int:
    return int.from_bytes(file.read(width), "little" if order == "little" else "big")
