"""Ways in which a file ends up damaged, each a function that changes the file at a path."""

from collections.abc import Callable
from pathlib import Path


def _cut(share: float) -> Callable[[Path], None]:
    def cut(path: Path) -> None:
        content = path.read_bytes()
        path.write_bytes(content[: int(share * len(content))])

    return cut


def _flip(share: float) -> Callable[[Path], None]:
    def flip(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[int(share * (len(content) - 1))] ^= 0xFF
        path.write_bytes(content)

    return flip


def _zeros(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def change_digit(path: Path) -> None:
    """Change the first digit after the middle of a text file, or its last, by one: the file can still be read."""
    content = bytearray(path.read_bytes())
    digits = [position for position, byte in enumerate(content) if byte in b"0123456789"]
    position = next((each for each in digits if each >= len(content) // 2), digits[-1])
    content[position] ^= 1
    path.write_bytes(content)


DAMAGE: dict[str, Callable[[Path], None]] = {
    "empty": _cut(0),
    "cut to half": _cut(0.5),
    "one byte near the start": _flip(0.05),
    "one byte in the middle": _flip(0.6),
    "last byte": _flip(1),
    "zeros": _zeros,
}
