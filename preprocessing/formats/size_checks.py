"""Checks that a file holds what its header states, before memory is allocated for it."""

import zlib
from pathlib import Path

from configs.errors import Fault, InputError

ZLIB_OR_GZIP = 47  # zlib's `wbits` for streams with the header and checksum of either
MOST_DEFLATED = 1032  # bytes that one byte of gzip or zlib expands to at most


def check_size(path: Path, shape: tuple[int, ...], stated: int, possible: int) -> None:
    """Refuse a header that states more voxels than the file can hold.

    `stated` is the size in bytes of the header and voxels of this shape, and `possible` that which the file's content can have at most.

    Raises:
        InputError: the header states more.
    """
    if stated > possible:
        problem = f"its header states the shape {shape}, which takes {stated} bytes, but the file holds at most {possible}"
        raise InputError(Fault(str(path), f"the file cannot be read ({problem})", "It is truncated or damaged: copy it again"))


def unpack(packed: bytes, most: int) -> bytes:
    """Return the content of a zlib stream, or of all members of a gzip file.

    Raises:
        EOFError: the content is truncated.
        ValueError: the content has more than `most` bytes.
        zlib.error: the content is damaged.
    """
    parts: list[bytes] = []
    while packed:
        stream = zlib.decompressobj(ZLIB_OR_GZIP)
        parts.append(stream.decompress(packed, most + 1 - sum(map(len, parts))))
        if sum(map(len, parts)) > most:
            raise ValueError("it holds more data than its header states")
        if not stream.eof:
            raise EOFError("the compressed data end too early")
        packed = stream.unused_data.lstrip(b"\0")  # padding is allowed
    return parts[0] if len(parts) == 1 else b"".join(parts)
