"""Small image files of every kind, made in memory, for the tests of the decoder."""

import base64
import io
import struct
import zlib

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 32, 24
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
# 16×16 pixels, made by libjpeg-turbo 2.1's `cjpeg -arithmetic -quality 90` and by imagecodecs 2026.10: left half
# (200, 60, 20), right half (20, 90, 180); the second is gray.
ARITHMETIC_JPEG = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAMCAgMCAgMDAwMEAwMEBQgFBQQEBQoHBwYIDAoMDAsKCwsNDhIQDQ4RDgsLEBYQERMUFRUVDA8XGBYUGBIU"
    "FRT/2wBDAQMEBAUEBQkFBQkUDQsNFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBT/yQARCAAQABADASIAAhEB"
    "AxEB/8wACgAQEAUBEBEF/9oADAMBAAIRAxEAPwD/ALtOk/CKl6sc9blo4Oin+RGiD+HqMP/Z"
)
TWELVE_BIT_JPEG = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAgGBgcGBQgHBwcJCQgKDBQNDAsLDBkSEw8UHRofHh0aHBwgJC4nICIsIxwcKDcpLDAxNDQ0Hyc5PTgyPC4z"
    "NDL/wQALDAAQABABABEA/8QAFQABAQAAAAAAAAAAAAAAAAAADAv/xAAUEAEAAAAAAAAAAAAAAAAAAAAA/9oACAEBAAA/AKQAl+WgCX7/2Q=="
)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    """Return an image as a file in a format of Pillow's, with Pillow's options."""
    stream = io.BytesIO()
    image.save(stream, format=kind, **options)
    return stream.getvalue()


def png(pixels: np.ndarray, color_type: int, interlaced: bool = False) -> bytes:
    """Return unfiltered PNG, which Pillow does not write interlaced or with 16 bits per colour.

    Args:
        pixels: uint8 or big-endian uint16, (height, width, channels).
        color_type: 0 gray, 2 RGB, 4 gray and alpha, 6 RGBA.
        interlaced: whether the pixels come in the seven passes of Adam7.
    """
    height, width, _ = pixels.shape
    passes = ADAM7 if interlaced else ((0, 0, 1, 1),)
    rows = b"".join(
        b"\0" + row.tobytes() for left, top, right, down in passes for row in pixels[top::down, left::right] if row.size
    )
    header = struct.pack(">IIBBBBB", width, height, 8 * pixels.itemsize, color_type, 0, 0, interlaced)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def frames(count: int, size: tuple[int, int] = (WIDTH, HEIGHT)) -> list[Image.Image]:
    """Return images of one colour each; the first is red, the others are not."""
    return [Image.new("RGB", size, (255 - 37 * i % 256, 11 * i % 256, 97 * i % 256)) for i in range(count)]


def animation(kind: str, count: int, size: tuple[int, int] = (WIDTH, HEIGHT)) -> bytes:
    """Return a file with several frames of one colour each, the first of them red: GIF, PNG, WEBP (lossless) or MPO."""
    first, *others = frames(count, size)
    options = {"lossless": True, "method": 0} if kind == "WEBP" else {}
    return encoded(first, kind, save_all=True, append_images=others, **options)


def files_of_every_kind() -> dict[str, bytes]:
    """Return a file of every kind that the decoder reads or should tell apart, by a name for messages."""
    draw = np.random.default_rng(0)
    rgb = Image.fromarray(np.kron(draw.integers(0, 256, (3, 4, 3)), np.ones((8, 8, 1), int)).astype(np.uint8))
    rgba = Image.fromarray(np.dstack([np.asarray(rgb), draw.integers(0, 256, (HEIGHT, WIDTH), dtype=np.uint8)]))
    noise = draw.integers(0, 1 << 16, (HEIGHT, WIDTH, 4)).astype(">u2")
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x0132], exif[0x011A] = 6, "Maker", "2020:01:01 00:00:00", 72.0
    palette = rgb.quantize(16)
    return {
        "baseline.jpg": encoded(rgb, "JPEG"),
        "progressive.jpg": encoded(rgb, "JPEG", progressive=True, exif=exif),
        "exif.jpg": encoded(rgb, "JPEG", exif=exif, subsampling=0),
        "gray.jpg": encoded(rgb.convert("L"), "JPEG"),
        "cmyk.jpg": encoded(rgb.convert("CMYK"), "JPEG"),
        "cmyk-progressive.jpg": encoded(rgb.convert("CMYK"), "JPEG", progressive=True),
        "many-scans.jpg": with_repeated_scan(encoded(rgb, "JPEG", progressive=True), 200),
        "arithmetic.jpg": ARITHMETIC_JPEG,
        "12-bit.jpg": TWELVE_BIT_JPEG,
        "two.mpo": animation("MPO", 2),
        "rgb.png": encoded(rgb, "PNG", exif=exif),
        "rgba.png": encoded(rgba, "PNG"),
        "1-bit.png": encoded(rgb.convert("1"), "PNG"),
        "palette.png": encoded(palette, "PNG", transparency=0),
        "gray-16.png": png(noise[..., :1], 0),
        "rgba-16.png": png(noise, 6),
        "interlaced.png": png(np.asarray(rgb), 2, interlaced=True),
        "animated.png": animation("PNG", 3),
        "still.gif": encoded(palette, "GIF", transparency=0),
        "animated.gif": animation("GIF", 3),
        "lossy.webp": encoded(rgb, "WEBP", exif=exif),
        "lossless.webp": encoded(rgba, "WEBP", lossless=True),
        "animated.webp": animation("WEBP", 3),
        "rgb.bmp": encoded(rgb, "BMP"),
        "palette.bmp": encoded(palette, "BMP"),
        "1-bit.bmp": encoded(rgb.convert("1"), "BMP"),
        "rgb.tiff": encoded(rgb, "TIFF"),
    }


def with_repeated_scan(data: bytes, count: int) -> bytes:
    """Return a progressive JPEG whose last scan comes `count` times more; libjpeg decodes each."""
    start, end = data.rindex(b"\xff\xda"), data.rindex(b"\xff\xd9")
    return data[:end] + data[start:end] * count + data[end:]
