"""What a header claims, held against the file before memory is allocated for it; compressed content, checked to its end."""

import zlib
from pathlib import Path

from configs.errors import Fault, InputError

ZLIB_OR_GZIP = 47  # zlib's word for streams with the header and checksum of either


def check_claim(path: Path, shape: tuple[int, ...], claimed: int, possible: int) -> None:
    """Refuse a header that claims more than the file can hold.

    Args:
        path: of the file.
        shape: that the header states, axes as in the file.
        claimed: bytes that the header and these voxels take.
        possible: bytes that the file can hold.

    Raises:
        InputError: it claims more.
    """
    if claimed > possible:
        problem = f"its header states the shape {shape}, which takes {claimed} bytes, but the file holds {possible} at most"
        raise InputError(Fault(str(path), f"the file cannot be read ({problem})", "It is truncated or damaged: copy it anew"))


def unpack(packed: bytes, most: int) -> bytes:
    """The content of a zlib stream, or of all members of a gzip file.

    Raises:
        EOFError: it is truncated.
        ValueError: it holds more than `most` bytes.
        zlib.error: it is damaged.
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
