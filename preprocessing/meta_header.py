"""The text header of a MetaImage file, held against its format before a library parses it: that one writes past its buffers on some.

Format: https://itk.org/Wiki/ITK/MetaIO/Documentation. Each line is `Name = value`; `ElementDataFile` is the last.
"""

import re

_LONGEST_NAME, _LONGEST_LINE = 80, 1000  # bytes; the library keeps names in 255 and texts in 1024
_MOST_AXES = 10
_LAST = b"elementdatafile"
_LINE = re.compile(rb"[ \t]*([A-Za-z0-9_.\-]+)[ \t]*=[ \t]*([^\x00-\x08\x0a-\x1f]*?)[ \t]*\r?")
_INTEGER = re.compile(rb"[+-]?\d{1,18}")
_NUMBER = re.compile(rb"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?")
# What holds one number for each axis (1), or for each pair of axes (2).
_PER_AXIS = {b"dimsize": 1, b"elementspacing": 1, b"elementsize": 1, b"offset": 1, b"position": 1, b"origin": 1}
_PER_AXIS |= {b"centerofrotation": 1, b"transformmatrix": 2, b"rotation": 2, b"orientation": 2}
_SINGLE = (b"ndims", b"headersize", b"compresseddatasize", b"elementnumberofchannels", b"compressionlevel")


def check_meta_header(header: bytes) -> None:
    """Check the lines up to `ElementDataFile`.

    Args:
        header: the beginning of the file.

    Raises:
        ValueError: a line is none of the format, too long, or holds another number of numbers than there are axes.
    """
    axes: int | None = None
    for line in header.split(b"\n"):
        if not line.strip():
            continue
        found = _LINE.fullmatch(line)
        if found is None or len(found[1]) > _LONGEST_NAME or len(line) > _LONGEST_LINE:
            raise ValueError(f"a line of its header is no `Name = value`: {line[:60]!r}")
        name, words = found[1].lower(), found[2].split()
        if name in _SINGLE and not (len(words) == 1 and _INTEGER.fullmatch(words[0])):
            raise ValueError(f"`{found[1].decode()}` must be one whole number, not {found[2][:60]!r}")
        if name == b"ndims":
            if axes is not None or not 1 <= int(words[0]) <= _MOST_AXES:
                raise ValueError(f"`NDims` must be given once, from 1 to {_MOST_AXES}")
            axes = int(words[0])
        if name in _PER_AXIS:
            _check_numbers(found[1].decode(), words, axes, _PER_AXIS[name])
        if name == _LAST:
            return
    if len(header) < 2 * _LONGEST_LINE:
        raise ValueError("its header does not end with `ElementDataFile`")


def _check_numbers(name: str, words: list[bytes], axes: int | None, power: int) -> None:
    if axes is None:
        raise ValueError(f"`{name}` comes before `NDims`")
    kind = _INTEGER if name.lower() == "dimsize" else _NUMBER
    if len(words) != axes**power or not all(kind.fullmatch(word) for word in words):
        raise ValueError(f"`{name}` must be {axes**power} numbers")
