import io
import struct

import numpy as np
import pytest
from PIL import Image

from keras_bench.images import UnreadableImageError, decode, encode_png, read_header

RGB = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]], [[10, 20, 30], [40, 50, 60], [70, 80, 90]]], np.uint8)


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format=kind, **options)
    return stream.getvalue()


@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("BMP", {}), ("WEBP", {"lossless": True})])
def test_lossless_formats_come_back_exactly(kind, options):
    image = decode(encoded(Image.fromarray(RGB), kind, **options))
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, RGB)


def test_jpeg_pixels_equal_pillows():
    data = encoded(Image.fromarray(np.kron(RGB, np.ones((8, 8, 1), np.uint8))), "JPEG", quality=80)
    np.testing.assert_array_equal(decode(data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


def test_grayscale_is_repeated_in_three_channels():
    gray = np.array([[0, 128], [200, 255]], np.uint8)
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(gray), "PNG")), np.stack([gray] * 3, axis=-1))


def test_1_bit_images_become_black_and_white():
    bits = Image.fromarray(np.array([[0, 255]], np.uint8)).convert("1")
    np.testing.assert_array_equal(decode(encoded(bits, "PNG"))[0, :, 0], [0, 255])


def test_16_bit_values_keep_their_upper_8_bits():
    deep = np.array([[0, 255, 256, 65535]], np.uint16)
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(deep), "PNG"))[0, :, 0], [0, 0, 1, 255])


def test_palette_is_looked_up():
    palette = Image.fromarray(RGB).quantize(8)
    np.testing.assert_array_equal(decode(encoded(palette, "PNG")), np.asarray(palette.convert("RGB")))


def test_transparency_is_composited_over_white():
    rgba = np.array([[[255, 0, 0, 0], [255, 0, 0, 255], [0, 0, 0, 51]]], np.uint8)  # 51 / 255 = 20 % black
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(rgba), "PNG"))[0], [[255] * 3, [255, 0, 0], [204] * 3])


def test_palette_with_a_transparent_entry_is_composited_over_white():
    palette = Image.fromarray(np.array([[0, 1]], np.uint8), mode="P")
    palette.putpalette([255, 0, 0, 0, 0, 255])
    data = encoded(palette, "PNG", transparency=0)
    np.testing.assert_array_equal(decode(data)[0], [[255, 255, 255], [0, 0, 255]])


def test_cmyk_becomes_rgb():
    cmyk = Image.fromarray(np.full((8, 8, 4), [0, 255, 255, 0], np.uint8), mode="CMYK")  # magenta and yellow: red
    image = decode(encoded(cmyk, "JPEG", quality=100))
    assert image.shape == (8, 8, 3)
    assert np.abs(image.astype(int) - [255, 0, 0]).max() <= 3


def test_gif_gives_its_first_frame():
    frames = [Image.new("RGB", (3, 2), color) for color in ("red", "blue")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(decode(data), np.full((2, 3, 3), [255, 0, 0], np.uint8))


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (1, RGB),
        (2, RGB[:, ::-1]),
        (3, RGB[::-1, ::-1]),
        (4, RGB[::-1]),
        (5, RGB.transpose(1, 0, 2)),
        (6, np.rot90(RGB, -1)),
        (7, RGB[::-1, ::-1].transpose(1, 0, 2)),
        (8, np.rot90(RGB)),
    ],
)
def test_exif_orientation_is_applied(orientation, upright):
    image = Image.fromarray(RGB)
    exif = image.getexif()
    exif[0x0112] = orientation
    np.testing.assert_array_equal(decode(encoded(image, "PNG", exif=exif)), upright)


# Offset behind "Exif" or "EXIF" in the file below, and what its byte becomes. The first three leave the orientation
# readable, and Pillow's exif_transpose raises struct.error, TypeError and AttributeError; the last two lose it.
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")  # pytest resets the filter that the module sets
@pytest.mark.parametrize(
    ("kind", "offset", "value", "turned"),
    [
        ("JPEG", 17, 0, True),
        ("JPEG", 17, 26, True),
        ("JPEG", 41, 13, True),
        ("JPEG", 10, 255, False),
        ("WEBP", 8, 0, False),
    ],
)
def test_damaged_exif_data_is_ignored_and_the_pixels_are_kept(kind, offset, value, turned):
    exif = Image.Exif()
    exif[0x0112], exif[0x011A], exif[0x010F] = 6, 72.0, "Maker"
    plain = encoded(Image.fromarray(RGB), kind)
    damaged = bytearray(encoded(Image.fromarray(RGB), kind, exif=exif))
    damaged[damaged.index({"JPEG": b"Exif", "WEBP": b"EXIF"}[kind]) + offset] = value
    upright = np.rot90(decode(plain), -1) if turned else decode(plain)
    np.testing.assert_array_equal(decode(bytes(damaged)), upright)
    assert read_header(bytes(damaged)) == (kind, "RGB")


@pytest.mark.parametrize("raised", [struct.error("no"), KeyError(3), ZeroDivisionError(), RecursionError("too deep")])
def test_whatever_pillow_raises_the_image_is_unreadable(monkeypatch, raised):
    def refuse(*arguments, **options):
        raise raised

    monkeypatch.setattr(Image, "open", refuse)
    for read in (decode, read_header):
        with pytest.raises(UnreadableImageError):
            read(b"an image")


def test_memory_that_runs_out_is_not_the_images_fault(monkeypatch):
    def refuse(*arguments, **options):
        raise MemoryError

    monkeypatch.setattr(Image, "open", refuse)
    for read in (decode, read_header):
        with pytest.raises(MemoryError):
            read(b"an image")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty"),
        (b"GIF89a", "damaged|not a"),
        (b"<html>not an image</html>", "not a JPEG"),
        (encoded(Image.fromarray(np.zeros((64, 64, 3), np.uint8)), "JPEG")[:400], "damaged or truncated"),
        (encoded(Image.fromarray(RGB), "PNG")[:50], "damaged or truncated|not a"),
        (encoded(Image.fromarray(RGB), "TIFF"), "not a JPEG"),
    ],
)
def test_unreadable_bytes_say_why(data, message):
    with pytest.raises(UnreadableImageError, match=message):
        decode(data)


def test_a_decompression_bomb_is_refused_before_it_is_decoded(monkeypatch):
    monkeypatch.setattr("keras_bench.images.MAX_PIXELS", 5)
    with pytest.raises(UnreadableImageError, match="3×2 pixels are more than 5"):
        decode(encode_png(RGB))
