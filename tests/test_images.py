import io
import struct
import time

import numpy as np
import pytest
from PIL import Image

from keras_bench.images import (
    MAX_MEGAPIXELS,
    UnreadableImageError,
    decode,
    decoder_name,
    encode_png,
    is_animated,
    read_header,
    stated_pixels,
)
from tests.image_files import (
    ARITHMETIC_JPEG,
    TWELVE_BIT_JPEG,
    animation,
    encoded,
    files_of_every_kind,
    frames,
    png,
    with_repeated_scan,
)

RGB = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]], [[10, 20, 30], [40, 50, 60], [70, 80, 90]]], np.uint8)


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
    assert stated_pixels(bytes(damaged)) == 6


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


def test_an_image_above_the_limit_is_refused_before_it_is_decoded():
    damaged = encode_png(RGB)[:-20]  # decoding would raise another error
    remedy = "shrink it, or raise the limit: dataset.max_megapixels, or --max-megapixels"
    with pytest.raises(UnreadableImageError, match=f"3×2 pixels are more than 5e-06 megapixels; {remedy}"):
        decode(damaged, max_megapixels=5e-6)
    np.testing.assert_array_equal(decode(encode_png(RGB), max_megapixels=6e-6), RGB)


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [("WEBP", {"lossless": True}, "a WebP"), ("JPEG", {"progressive": True}, "a progressive JPEG")],
)
def test_what_takes_twice_the_memory_has_half_the_limit(kind, options, words):
    data = encoded(Image.fromarray(RGB), kind, **options)
    with pytest.raises(
        UnreadableImageError, match=f"3×2 pixels are more than 5e-06 megapixels, the limit for {words};"
    ):
        decode(data, max_megapixels=10e-6)
    assert decode(data, max_megapixels=12e-6).shape == (2, 3, 3)


@pytest.mark.filterwarnings("ignore:Image size:PIL.Image.DecompressionBombWarning")  # pytest resets the module's filter
def test_the_limit_may_be_above_pillows_own(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2)
    with pytest.raises(UnreadableImageError, match=r"Image size \(6 pixels\) is more than 1e-06 megapixels; shrink it"):
        decode(encode_png(RGB), max_megapixels=1e-6)
    assert Image.MAX_IMAGE_PIXELS == 2
    np.testing.assert_array_equal(decode(encode_png(RGB), max_megapixels=7e-6), RGB)
    assert Image.MAX_IMAGE_PIXELS == 4


def test_only_another_limit_changes_the_decoders_name():
    assert decoder_name(MAX_MEGAPIXELS) == decoder_name()
    assert decoder_name(300) == f"{decoder_name()}-300mp"


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P", "RGBA", "CMYK", "I;16", "transparent"])
def test_strips_give_the_pixels_of_the_whole_image(monkeypatch, mode, orientation):
    draw = np.random.default_rng(0)
    image = Image.fromarray(draw.integers(0, 256, (23, 7, 3), dtype=np.uint8))
    exif, options = Image.Exif(), {}
    exif[0x0112] = orientation
    if mode == "I;16":
        image = Image.fromarray(draw.integers(0, 1 << 16, (23, 7), dtype=np.uint16))
    elif mode == "transparent":
        options["transparency"] = image.getpixel((3, 3))
    else:
        image = image.convert(mode)
    data = encoded(image, "JPEG" if mode == "CMYK" else "PNG", exif=exif, **options)
    whole = decode(data)
    assert whole.shape == ((7, 23, 3) if orientation > 4 else (23, 7, 3))
    monkeypatch.setattr("keras_bench.images.STRIP_PIXELS", 20)  # two rows at a time
    np.testing.assert_array_equal(decode(data), whole)


def test_progressive_jpeg_gives_the_pixels_of_a_baseline_jpeg():
    image = Image.fromarray(np.kron(RGB, np.ones((8, 8, 1), np.uint8)))
    plain, progressive = encoded(image, "JPEG"), encoded(image, "JPEG", progressive=True)
    assert b"\xff\xc2" in progressive
    np.testing.assert_array_equal(decode(progressive), decode(plain))


def test_a_jpeg_of_too_many_scans_is_refused_before_any_is_decoded(monkeypatch):
    image = Image.fromarray(np.kron(RGB, np.ones((64, 64, 1), np.uint8)))
    thumbnails = b"\xff\xfe" + (2 + 400).to_bytes(2, "big") + b"\xff\xda" * 200  # inside a comment: no scans
    plain = encoded(image, "JPEG", progressive=True)
    scans = plain.count(b"\xff\xda")
    commented = plain[:2] + thumbnails + plain[2:]
    np.testing.assert_array_equal(decode(commented), decode(plain))
    np.testing.assert_array_equal(decode(with_repeated_scan(commented, 100 - scans)), decode(plain))
    monkeypatch.setattr("PIL.JpegImagePlugin.JpegImageFile.load", None)
    for padding in (b"", b"\xff" * 9, b"junk\0\xff\0", b"\xff\x01\xff\xd0"):  # libjpeg skips these
        data = with_repeated_scan(commented[:-2] + padding + commented[-2:], 101 - scans)
        with pytest.raises(UnreadableImageError, match="a JPEG of 101 scans; up to 100 are read"):
            decode(data)


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(("color_type", "channels"), [(0, 1), (2, 3), (6, 4)])
@pytest.mark.parametrize("dtype", ["u1", ">u2"])
def test_png_by_hand_comes_back_exactly(interlaced, color_type, channels, dtype):
    values = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (13, 11, channels), endpoint=True).astype(dtype)
    if channels == 4:
        values[..., 3] = np.iinfo(dtype).max  # opaque
    upper = values if dtype == "u1" else values >> 8
    expected = np.broadcast_to(upper[..., :3], (13, 11, 3))
    np.testing.assert_array_equal(decode(png(values, color_type, interlaced)), expected)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_of_an_animation_only_the_first_frame_is_decoded(kind):
    data = animation(kind, 3)
    assert is_animated(data)
    assert not is_animated(encoded(frames(1)[0], kind))
    assert (decode(data) == [255, 0, 0]).all()
    middle = data.index({"GIF": b"\x2c", "PNG": b"fdAT", "WEBP": b"ANMF"}[kind], len(data) // 3)
    damaged = bytearray(data)
    damaged[middle + 20 : middle + 30] = b"\xff" * 10
    try:
        assert (decode(bytes(damaged)) == [255, 0, 0]).all()
    except UnreadableImageError:
        assert kind == "WEBP"  # libwebp reads the list of frames first


def test_of_an_mpo_the_first_image_is_decoded():
    data = animation("MPO", 2)
    assert read_header(data) == ("MPO", "RGB")
    assert not is_animated(data)
    np.testing.assert_array_equal(decode(data), decode(encoded(frames(1)[0], "JPEG")))


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_long_animations_take_no_longer_than_their_first_frame(kind):
    few, many = animation(kind, 2, (100, 100)), animation(kind, 500, (100, 100))

    def fastest(data):
        times = []
        for _ in range(3):
            started = time.process_time()
            decode(data)
            times.append(time.process_time() - started)
        return min(times)

    assert fastest(many) < 20 * max(fastest(few), 1e-3)  # decoding every frame would take 250 times as long


def test_arithmetic_coding_is_decoded_or_named():
    """Whether Pillow reads it depends on its build, and on whether the file comes in one piece of 64 KiB."""
    comment = b"\xff\xfe" + (65316 - 2).to_bytes(2, "big") + bytes(65316 - 4)  # the pixels' code straddles the pieces
    small, large = ARITHMETIC_JPEG, ARITHMETIC_JPEG[:2] + comment + ARITHMETIC_JPEG[2:]
    for data in (small, large):
        try:
            image = decode(data)
        except UnreadableImageError as error:
            reason = str(error)
            assert reason.startswith("an arithmetic-coded JPEG, which is not, or not fully, supported; convert it")
        else:
            assert np.abs(image[:, :7].astype(int) - [200, 60, 20]).max() < 6
            assert np.abs(image[:, 9:].astype(int) - [20, 90, 180]).max() < 6


@pytest.mark.parametrize("read", [decode, read_header, is_animated, stated_pixels])
@pytest.mark.parametrize(
    ("data", "message"),
    [
        (TWELVE_BIT_JPEG, "a 12-bit JPEG, which is not, or not fully, supported; convert it to a baseline JPEG or PNG"),
        (encoded(Image.fromarray(RGB), "TIFF"), "a TIFF file, not a JPEG, PNG, BMP, GIF or WebP image; convert it"),
        (b"\0\0\0\x1cftypavif\0\0\0\0", "an AVIF file, not a JPEG"),
        (b"\0\0\0\x1cftypheic\0\0\0\0", "a HEIC file, not a JPEG"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "a JPEG 2000 file, not a JPEG"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "text, such as SVG or HTML, not a JPEG"),
    ],
)
def test_other_kinds_are_named_with_what_to_do(read, data, message):
    with pytest.raises(UnreadableImageError, match=message):
        read(data)


@pytest.mark.parametrize("name", files_of_every_kind())
def test_every_kind_is_read_or_told_apart(name):
    data = files_of_every_kind()[name]
    if name in ("12-bit.jpg", "rgb.tiff", "many-scans.jpg"):
        with pytest.raises(UnreadableImageError, match="convert it|save it again"):
            decode(data)
    elif name != "arithmetic.jpg":
        assert {32, 24} == set(decode(data).shape[:2])
        assert read_header(data)[0] in ("JPEG", "PNG", "GIF", "WEBP", "BMP", "MPO")
