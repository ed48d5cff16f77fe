"""Random damage to files, for tests that read damaged ones."""

import random

EXTREMES = (b"\x00", b"\xff", b"\x7f", b"\x80", b"\x01")
MAX_CHANGES = 4


def mutated(content: bytes, draw: random.Random) -> bytes:
    """Return a copy of a file with 1 to 4 random changes.

    Bytes change, vanish, are inserted and repeated; numbers of 2 and 4 bytes become extreme, more often near the start,
    where headers are; and the file may be cut off.

    Args:
        content: the file, at least 1 byte.
        draw: the source of randomness; its state determines the result.
    """
    data = bytearray(content)
    for _ in range(draw.choice((1, 1, 2, MAX_CHANGES))):
        draw.choice((_flip, _flip, _set, _set, _extreme, _extreme, _cut, _insert, _repeat, _remove))(data, draw)
        if not data:
            return b"x"
    return bytes(data)


def _position(data: bytearray, draw: random.Random) -> int:
    return draw.randrange(min(len(data), draw.choice((40, 120, len(data), len(data)))))


def _flip(data: bytearray, draw: random.Random) -> None:
    data[_position(data, draw)] ^= 1 << draw.randrange(8)


def _set(data: bytearray, draw: random.Random) -> None:
    data[_position(data, draw)] = draw.randrange(256)


def _extreme(data: bytearray, draw: random.Random) -> None:
    start, width = _position(data, draw), draw.choice((1, 2, 3, 4))
    data[start : start + width] = draw.choice(EXTREMES) * len(data[start : start + width])


def _cut(data: bytearray, draw: random.Random) -> None:
    del data[draw.randrange(len(data)) :]


def _insert(data: bytearray, draw: random.Random) -> None:
    start = _position(data, draw)
    data[start:start] = draw.randbytes(draw.randrange(1, 9))


def _repeat(data: bytearray, draw: random.Random) -> None:
    start, target = _position(data, draw), _position(data, draw)
    data[target:target] = data[start : start + draw.choice((4, 16, 64, 1024))]


def _remove(data: bytearray, draw: random.Random) -> None:
    start = _position(data, draw)
    del data[start : start + draw.choice((1, 4, 16))]
