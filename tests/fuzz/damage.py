"""Strategies of hypothesis that draw damaged files: they change bytes, numbers, words, JSON values and files of archives."""

import copy
import gzip
import io
import json
import re
import struct
import zipfile
from collections.abc import Iterator, Sequence
from typing import Any

from hypothesis import strategies as st

Files = st.SearchStrategy[bytes]
_INTEGERS = (0, 1, -1, 2, 7, 8, 127, 128, 255, 256, 32767, -32768, 65535, 2**31 - 1, -(2**31), 2**32 - 1, 2**53, 2**63 - 1)
_FLOATS = (0.0, -0.0, 1.0, -1.0, 1e-45, 1e-30, 1e30, 3.4e38, float("nan"), float("inf"), float("-inf"))
_FIELDS = [
    *[(n % 256**size).to_bytes(size, order) for n in _INTEGERS for size in (1, 2, 4, 8) for order in ("little", "big")],
    *[struct.pack(form, number) for number in _FLOATS for form in ("<f", ">f", "<d")],
]  # fmt: skip
_WORDS = (
    b"0", b"1", b"-1", b"3", b"1000000000", b"99999999999999999999", b"1e309", b"nan", b"NaN", b"inf", b"-0.0", b"None", b"none",
    b"\x00", b"\xff\xfe", b"\n", b"\r\n", b"\n\n", b" ", b"=", b":", b",", b"%s%s%n", b"../../../etc/passwd", b"/dev/zero",
    b"LOCAL", b"LIST", b"raw", b"gzip", b"bzip2", b"ascii", b"True", b"big", b"short", b"double", b"(1,0,0)",
    b"\xed\xa0\x80", b"{", b"[", b"]",
)  # fmt: skip
_VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 10**9, 10**30, -(10**30), 1.5, 1e-300, 1e300, float("nan"), float("inf"), "", "a", "0", "\x00",
    "\ud800", "../../x", "/etc/passwd", "<script>", "$(touch x)", "a" * 10_000, [], {}, [[]], [None], {"": None}, [0] * 100,
)  # fmt: skip
_ALL, _SAME, _WORD = 2**40, -1, -2  # special numbers of replaced bytes
# Headers come first in a file, and are changed more often than the rest.
_PLACES = st.integers(0, 63) | st.integers(0, 399) | st.integers(0, 399) | st.integers(0, 2**20)
_LENGTHS = st.sampled_from((1, 2, 4, 16, 200))
# Place, new content (or number of repetitions of the present content), and number of bytes that are replaced.
_EDITS = st.one_of(
    st.tuples(_PLACES, st.sampled_from(_FIELDS) | st.binary(min_size=1, max_size=4), st.just(_SAME)),
    st.tuples(_PLACES, st.sampled_from(_WORDS) | st.binary(max_size=16), st.sampled_from((0, _WORD, _WORD))),
    st.tuples(_PLACES, st.just(b""), _LENGTHS | st.just(_ALL)),
    st.tuples(_PLACES, st.sampled_from((1, 2, 20)), _LENGTHS),
)


@st.composite
def damaged(draw: st.DrawFn, sound: Sequence[bytes]) -> bytes:
    """Draw a sound file with one to four edits. One in ten also gets the end of another file."""
    content = draw(st.sampled_from(sound))
    for place, put, removed in draw(st.lists(_EDITS, min_size=1, max_size=4)):
        place %= len(content) + 1
        if isinstance(put, int):
            put, removed = content[place : place + removed] * put, 0
        if removed == _WORD:
            removed = len(re.match(rb"[^ \n\r=:,()]*", content[place:])[0])
        content = content[:place] + put + content[place + (len(put) if removed == _SAME else removed) :]
    if draw(st.integers(0, 9)) == 9:
        other = draw(st.sampled_from(sound))
        content = content[: draw(_PLACES) % (len(content) + 1)] + other[draw(_PLACES) % (len(other) + 1) :]
    return content


@st.composite
def damaged_json(draw: st.DrawFn, sound: Sequence[bytes]) -> bytes:
    """Draw a sound JSON file with one to three edits of values, keys or structure. One in four is damaged as bytes instead."""
    if draw(st.integers(0, 3)) == 3:
        return draw(damaged(sound))
    root = [json.loads(draw(st.sampled_from(sound)))]
    for _ in range(draw(st.integers(1, 3))):
        if places := list(_places(root)):
            _edit(draw, *draw(st.sampled_from(places)))
    nested = draw(st.sampled_from((0,) * 50 + (10, 1000, 100_000)))
    return b"[" * nested + " ".join(map(json.dumps, root)).encode("utf-8", "surrogatepass")


def _places(data: Any) -> Iterator[tuple[Any, Any]]:
    """Yield the container of every value in plain data, with the value's key or index in it."""
    for key in list(data) if isinstance(data, dict) else range(len(data)) if isinstance(data, list) else ():
        yield data, key
        yield from _places(data[key])


def _edit(draw: st.DrawFn, holder: Any, key: Any) -> None:
    """Replace a value, remove it, duplicate it, change its key, or nest it in lists."""
    value = draw(st.sampled_from(_VALUES).map(copy.deepcopy) | st.integers() | st.floats() | st.text(max_size=8))
    kind = draw(st.integers(0, 9))
    if kind < 6:
        holder[key] = value
    elif kind == 6:
        del holder[key]
    elif kind == 7:
        holder[key] = [[[[holder[key]]]]]
    elif isinstance(holder, list):
        holder.insert(key, copy.deepcopy(holder[key]))
    else:
        holder[str(value)] = copy.deepcopy(holder[key]) if kind == 8 else holder.pop(key)


def damaged_gzip(sound: Sequence[bytes]) -> Files:
    """Damage files before or after compression."""
    packed = [gzip.compress(each, 1, mtime=0) for each in sound]
    return damaged(sound).map(lambda content: gzip.compress(content, 1, mtime=0)) | damaged(packed)


def damaged_safetensors(sound: Sequence[bytes]) -> Files:
    """Damage the bytes, or the JSON of the header. The header's stated length is mostly correct."""
    return damaged(sound) | _damaged_header(sound)


@st.composite
def _damaged_header(draw: st.DrawFn, sound: Sequence[bytes]) -> bytes:
    content = draw(st.sampled_from(sound))
    end = 8 + int.from_bytes(content[:8], "little")
    header = draw(damaged_json([content[8:end]]))
    size = len(header)
    stated = draw(st.sampled_from((size,) * 50 + (0, 1, size + 1, 2**31, 2**63, 2**64 - 1)))
    return stated.to_bytes(8, "little") + header + content[end:]


def unpacked(content: bytes) -> dict[str, bytes]:
    """Return the files of a ZIP archive by their names."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(files: dict[str, bytes]) -> bytes:
    """Return a ZIP archive of these files, with matching checksums."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()
