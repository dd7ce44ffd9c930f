"""Seeded mutations of bytes and of JSON."""

import json
import random
import struct
from collections.abc import Callable, Sequence
from typing import Any

_INTEGERS = (0, 1, -1, 2, 7, 8, 127, 128, 255, 256, 32767, -32768, 65535, 2**31 - 1, -(2**31), 2**32 - 1, 2**53, 2**63 - 1)
_FLOATS = (0.0, -0.0, 1.0, -1.0, 1e-45, 1e-30, 1e30, 3.4e38, float("nan"), float("inf"), float("-inf"))
_FORMS = ("<b", "<h", ">h", "<i", ">i", "<q", ">q", "<f", ">f", "<d")
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


def mutated(content: bytes, others: Sequence[bytes], chance: random.Random) -> bytes:
    """One to four mutations of the bytes.

    Args:
        content: to change.
        others: of the corpus, to splice with.
        chance: decides.
    """
    changed = bytearray(content)
    for _ in range(chance.choice((1, 1, 1, 2, 2, 3, 4))):
        chance.choice(_MUTATIONS)(changed, others, chance)
    return bytes(changed)


def mutated_json(content: bytes, others: Sequence[bytes], chance: random.Random) -> bytes:
    """Values, keys and structure changed, still JSON; one in four as `mutated`."""
    if chance.random() < 0.25:
        return mutated(content, others, chance)
    data = json.loads(content)
    for _ in range(chance.choice((1, 1, 2, 3))):
        data = _change(data, chance)
    if chance.random() < 0.01:
        return b"[" * chance.choice((10, 1000, 100_000)) + json.dumps(data).encode()
    return json.dumps(data).encode("utf-8", "surrogatepass")


def _change(data: Any, chance: random.Random, depth: int = 0) -> Any:
    """Another value at one random place."""
    if not isinstance(data, dict | list) or not data or chance.random() < 0.1:
        return chance.choice(_VALUES)
    if isinstance(data, list):
        index = chance.randrange(len(data))
        kind = chance.random()
        if kind < 0.1:
            return data[:index] + data[index + 1 :]
        if kind < 0.2:
            return [*data[:index], data[index], *data[index:]]
        return [*data[:index], _change(data[index], chance, depth + 1), *data[index + 1 :]]
    key = chance.choice(list(data))
    kind = chance.random()
    if kind < 0.1:
        return {name: value for name, value in data.items() if name != key}
    if kind < 0.2:
        return {(str(chance.choice(_VALUES)) if name == key else name): value for name, value in data.items()}
    if kind < 0.25:
        return data | {str(chance.choice(_VALUES)): chance.choice(_VALUES)}
    return data | {key: _change(data[key], chance, depth + 1)}


def _flip(content: bytearray, others: Sequence[bytes], chance: random.Random) -> None:
    if content:
        content[_place(content, chance)] ^= 1 << chance.randrange(8)


def _set_byte(content: bytearray, others: Sequence[bytes], chance: random.Random) -> None:
    if content:
        content[_place(content, chance)] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))


def _set_number(content: bytearray, others: Sequence[bytes], chance: random.Random) -> None:
    form = chance.choice(_FORMS)
    size = struct.calcsize(form)
    if len(content) < size:
        return
    place = min(_place(content, chance), len(content) - size)
    if form[1] in "fd":
        number: float = chance.choice(_FLOATS)
        struct.pack_into(form, content, place, number)
    else:
        content[place : place + size] = (chance.choice(_INTEGERS) % 256**size).to_bytes(
            size, "little" if form[0] == "<" else "big"
        )


def _truncate(content: bytearray, others: Sequence[bytes], chance: random.Random) -> None:
    del content[chance.randrange(len(content) + 1) :]


def _delete(content: bytearray, others: Sequence[bytes], chance: random.Random) -> None:
    start = _place(content, chance)
    del content[start : start + chance.choice((1, 2, 4, 16, 200))]


def _repeat(content: bytearray, others: Sequence[bytes], chance: random.Random) -> None:
    start = _place(content, chance)
    content[start:start] = content[start : start + chance.choice((1, 4, 16, 200))] * chance.choice((1, 2, 20))


def _insert_word(content: bytearray, others: Sequence[bytes], chance: random.Random) -> None:
    start = _place(content, chance)
    content[start:start] = chance.choice(_WORDS)


def _replace_word(content: bytearray, others: Sequence[bytes], chance: random.Random) -> None:
    """One of the words of a text header."""
    start = _place(content, chance)
    end = start
    while end < len(content) and content[end] not in b" \n\r=:,()":
        end += 1
    content[start:end] = chance.choice(_WORDS)


def _splice(content: bytearray, others: Sequence[bytes], chance: random.Random) -> None:
    other = chance.choice(others)
    start = _place(content, chance)
    content[start:] = other[chance.randrange(len(other) + 1) :]


def _place(content: bytearray, chance: random.Random) -> int:
    """Headers, which come first, are hit more often than what follows."""
    if not content:
        return 0
    return chance.randrange(min(len(content), chance.choice((64, 400, 400, len(content)))))


_MUTATIONS: tuple[Callable[[bytearray, Sequence[bytes], random.Random], None], ...] = (
    _flip, _set_byte, _set_number, _set_number, _truncate, _delete, _repeat, _insert_word, _replace_word, _replace_word, _splice,
)  # fmt: skip
