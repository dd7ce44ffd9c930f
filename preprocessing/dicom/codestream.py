"""Sizes that compressed images state themselves, compared with the header before a decoder reserves memory for them.

Markers of JPEG: ITU-T T.81 B.1.1.3; of JPEG-LS: ITU-T T.87 C.1.1; of JPEG 2000: ITU-T T.800 A.5.1.
"""

import struct

_START_OF_FRAME = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}  # JPEG's and JPEG-LS's
_JPEG_2000 = b"\xff\x4f\xff\x51"


def stated_size(frame: bytes) -> tuple[int, int, int] | None:
    """Return rows, columns and components that a compressed frame states, or None where it states none."""
    if frame.startswith(_JPEG_2000):
        return _of_jpeg_2000(frame)
    place = 2
    while place + 10 <= len(frame) and frame[place] == 0xFF:
        marker, length = struct.unpack_from(">BH", frame, place + 1)
        if marker in _START_OF_FRAME:
            rows, columns, components = struct.unpack_from(">HHB", frame, place + 5)
            return rows, columns, components
        place += 1 if marker == 0xFF else 2 + length  # markers may be filled up with 0xFF
    return None


def _of_jpeg_2000(frame: bytes) -> tuple[int, int, int] | None:
    if len(frame) < 42:
        return None
    right, bottom, left, top = struct.unpack_from(">4I", frame, 8)
    (components,) = struct.unpack_from(">H", frame, 40)
    return bottom - top, right - left, components
