"""The only image decoder: every supported file becomes upright RGB, uint8.

Training, audit, report and the exported bundle all read images through `decode`, so a deployed model sees exactly
the pixels it was trained on. Only Pillow and NumPy are used.
"""

import io
import math
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import PIL
from PIL import ExifTags, Image, ImageFile

# Raise it whenever `decode` returns other pixels for some file than before, or accepts or rejects other files under the
# same limit: cached images and features of the earlier decoder are then no longer used. Pillow's version is part of the
# key too.
DECODER_VERSION = 3
EXTENSIONS = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".webp")
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP")
ANIMATED_FORMATS = ("PNG", "GIF", "WEBP")
# More than any phone (200) or medium-format camera (151) takes in one exposure. Decoding needs about 7 bytes per pixel,
# and 16 for WebP and progressive JPEG, of which half as many are allowed.
MAX_MEGAPIXELS = 250
HIGHEST_LIMIT = 10_000  # that can be set
STRIP_PIXELS = 1 << 20  # converted to RGB at a time
MAX_SCANS = 100  # of a JPEG, as the programs of libjpeg-turbo recommend; encoders write about ten
# How Pillow turns pixels upright, by EXIF orientation; 1 is upright.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SUPPORTED = "a JPEG, PNG, BMP, GIF or WebP image"
# Offset and bytes by which other files are recognised.
OTHER_KINDS = (
    (0, b"II*\0", "a TIFF file"),
    (0, b"MM\0*", "a TIFF file"),
    (4, b"ftypavi", "an AVIF file"),
    (4, b"ftyphei", "a HEIC file"),
    (4, b"ftyphev", "a HEIC file"),
    (4, b"ftypmif1", "a HEIF file"),
    (4, b"ftyp", "a video or another MP4 file"),
    (4, b"jP  \r\n", "a JPEG 2000 file"),
    (0, b"\xff\x4f\xff\x51", "a JPEG 2000 file"),
    (4, b"JXL \r\n", "a JPEG XL file"),
    (0, b"\xff\x0a", "a JPEG XL file"),
    (0, b"8BPS", "a Photoshop file"),
    (0, b"\0\0\1\0", "an icon"),
    (0, b"%PDF", "a PDF file"),
    (0, b"<", "text, such as SVG or HTML"),
)
# What a JPEG's frame marker says about its coding, where Pillow may not read it.
JPEG_KINDS = {
    0xC3: "a lossless JPEG",
    **dict.fromkeys((0xC5, 0xC6, 0xC7), "a hierarchical JPEG"),
    **dict.fromkeys((0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF), "an arithmetic-coded JPEG"),
}

ImageFile.LOAD_TRUNCATED_IMAGES = False
# These lines do not say which file they are about, and the pixels are not affected.
warnings.filterwarnings("ignore", category=UserWarning, module="PIL")
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning, module="PIL")


class UnreadableImageError(ValueError):
    """The bytes are not a complete image in a supported format; the message says why in one line."""


def is_image_name(name: str) -> bool:
    """Return whether a file name has the extension of a supported format; hidden files do not count."""
    return name.lower().endswith(EXTENSIONS) and not name.startswith(".")


def decode(data: bytes, max_megapixels: float = MAX_MEGAPIXELS) -> np.ndarray:
    """Decode one image file.

    JPEG (baseline, progressive, and the first image of an MPO file), PNG, BMP and WebP are read; of an animated GIF,
    PNG or WebP the first frame. Grayscale, palette, CMYK and 16-bit images become RGB; 16-bit values keep their upper 8
    bits; transparency is composited over white; the EXIF orientation is applied, and EXIF data that cannot be read is
    ignored.

    Args:
        data: the file's content.
        max_megapixels: limit of width × height in millions, at most 10,000; for WebP and progressive JPEG, which need
            twice the memory, half of it.

    Returns:
        uint8, (height, width, 3), RGB in [0, 255].

    Raises:
        UnreadableImageError: the bytes are empty, of an unsupported format, truncated or damaged, or the image is above
            the limit or a JPEG of more than 100 scans.
    """
    if not data:
        raise UnreadableImageError("the file is empty")
    _raise_pillows_limit(max_megapixels)
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _check_size(image, max_megapixels)
            if image.format in ("JPEG", "MPO"):
                _check_scans(data)
            return _upright_rgb(image)
    except Image.UnidentifiedImageError as error:
        raise UnreadableImageError(_describe_other(data)) from error
    except Image.DecompressionBombError as error:
        size = str(error).partition(" exceeds")[0]  # "Image size (180000000 pixels)"
        raise UnreadableImageError(f"{size} is more than {max_megapixels:g} megapixels{_REMEDY}") from error
    except (UnreadableImageError, MemoryError):
        raise
    except Exception as error:  # Pillow reports damage through nearly any exception, depending on the format
        reason = " ".join(str(error).split())[:200]
        raise UnreadableImageError(_unsupported_jpeg(data) or f"damaged or truncated ({reason})") from error


def read_header(data: bytes) -> tuple[str, str]:
    """Return a file's format and colour mode, e.g. ("JPEG", "L"), without decoding its pixels.

    Raises:
        UnreadableImageError: the bytes are in no supported format.
    """
    with _header_of(data) as image:
        return str(image.format), image.mode


def stated_pixels(data: bytes) -> int:
    """Return the number of pixels, height times width, that a file's header states, without decoding any.

    Raises:
        UnreadableImageError: the bytes are in no supported format.
    """
    with _header_of(data) as image:
        return image.width * image.height


def is_animated(data: bytes) -> bool:
    """Return whether a GIF, PNG or WebP holds several frames, of which `decode` reads the first.

    Raises:
        UnreadableImageError: the bytes are in no supported format.
    """
    with _header_of(data) as image:
        return image.format in ANIMATED_FORMATS and bool(getattr(image, "is_animated", False))


@contextmanager
def _header_of(data: bytes) -> Iterator[Image.Image]:
    """Give a file's header as Pillow reads it, without decoding pixels; what it cannot read is unreadable."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            yield image
    except MemoryError:
        raise
    except Exception as error:  # as in `decode`
        raise UnreadableImageError(_describe_other(data)) from error


def decoder_name(max_megapixels: float = MAX_MEGAPIXELS) -> str:
    """Return what determines the pixels of `decode` and which images it reads, e.g. "decoder-1-pillow-12.0.0"."""
    limit = "" if max_megapixels == MAX_MEGAPIXELS else f"-{max_megapixels:g}mp"
    return f"decoder-{DECODER_VERSION}-pillow-{PIL.__version__}{limit}"


def encode_png(image: np.ndarray) -> bytes:
    """Encode uint8 pixels, (height, width) or (height, width, 3), as PNG, which `decode` reads back unchanged."""
    return _encode(image, "PNG")


def encode_bmp(image: np.ndarray) -> bytes:
    """Encode uint8 pixels, (height, width, 3), as BMP, fast and without compression; `decode` reads them unchanged."""
    return _encode(image, "BMP")


def _encode(image: np.ndarray, file_format: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, format=file_format)
    return stream.getvalue()


def is_above_limit(reason: str) -> bool:
    """Return whether the message of an UnreadableImageError says that the image is above the limit."""
    return reason.endswith(_REMEDY)


_REMEDY = "; shrink it, or raise the limit: dataset.max_megapixels, or --max-megapixels where a bundle predicts"


def _raise_pillows_limit(max_megapixels: float) -> None:
    """Let Pillow open images up to the limit; its own is twice `MAX_IMAGE_PIXELS` and is never lowered here."""
    if Image.MAX_IMAGE_PIXELS is not None and max_megapixels * 1e6 > 2 * Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = math.ceil(max_megapixels * 1e6 / 2)


def _check_size(image: Image.Image, max_megapixels: float) -> None:
    """Refuse an image above the limit before its pixels are decoded."""
    kind = "a WebP" if image.format == "WEBP" else "a progressive JPEG" if image.info.get("progressive") else ""
    limit = max_megapixels / 2 if kind else max_megapixels
    if image.width * image.height > limit * 1e6:
        raise UnreadableImageError(
            f"{image.width}×{image.height} pixels are more than {limit:g} megapixels"
            f"{f', the limit for {kind}' if kind else ''}{_REMEDY}"
        )


_MARKER = re.compile(rb"\xff+([\x01-\xfe])")


def _check_scans(data: bytes) -> None:
    """Refuse a JPEG with more scans than encoders write: each takes time for every pixel, though it may be tiny."""
    if data.count(b"\xff\xda") <= MAX_SCANS:  # quick; counts those in thumbnails too
        return
    count = position = 0
    while found := _MARKER.search(data, position):  # as libjpeg, skips whatever is not a marker
        marker, position = found[1][0], found.end()
        if marker == 0xD9:  # the end of the image
            break
        count += marker == 0xDA
        if marker != 0x01 and not 0xD0 <= marker <= 0xD8:  # others have a length
            position += int.from_bytes(data[position : position + 2], "big")
    if count > MAX_SCANS:
        raise UnreadableImageError(
            f"a JPEG of {count:,} scans; up to {MAX_SCANS} are read, since each takes as long as an image; "
            "save it again as a baseline JPEG or PNG"
        )


def _describe_other(data: bytes) -> str:
    """Return why a file that Pillow cannot open is unreadable: what it is, if recognised, and what to do."""
    unsupported = _unsupported_jpeg(data)
    if unsupported:
        return unsupported
    for offset, signature, kind in OTHER_KINDS:
        if data.startswith(signature, offset):
            return f"{kind}, not {SUPPORTED}; convert it, e.g. to PNG"
    return f"not {SUPPORTED}"


def _unsupported_jpeg(data: bytes) -> str:
    """Return the kind of a JPEG that Pillow does not read, with a remedy; "" for all other files."""
    position = 2 if data.startswith(b"\xff\xd8") else len(data)
    while position + 5 <= len(data) and data[position] == 0xFF:
        marker, precision = data[position + 1], data[position + 4]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # the frame's header
            kind = JPEG_KINDS.get(marker) or (f"a {precision}-bit JPEG" if precision in (12, 16) else "")
            return (
                f"{kind}, which is not, or not fully, supported; convert it to a baseline JPEG or PNG" if kind else ""
            )
        position += 1 if marker == 0xFF else 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return ""


def _upright_rgb(image: Image.Image) -> np.ndarray:
    """Return an opened image's pixels, uint8, (height, width, 3), turned as its EXIF orientation says.

    Strips are converted one by one, which keeps the memory for large images to little more than their pixels.
    """
    image.load()  # before `getexif`: a PNG's EXIF data may come after its pixels
    orientation = _orientation(image)
    width, height = image.size
    upright = np.empty((width, height, 3) if orientation >= 5 else (height, width, 3), dtype=np.uint8)
    rows = max(1, STRIP_PIXELS // width)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        strip = image if rows >= height else image.crop((0, top, width, bottom))
        if orientation in TURNS:  # by Pillow, since NumPy is slow at copying pixels in another order
            strip = strip.transpose(TURNS[orientation])
        values = _rgb_values(strip)
        if rows >= height and values.shape[-1] == 3:
            return values
        start, end = (height - bottom, height - top) if orientation in (3, 4, 6, 7) else (top, bottom)
        place = upright[:, start:end] if orientation >= 5 else upright[start:end]
        place[...] = values
    return upright


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8; 1, upright, where that is missing or cannot be read.

    Not by Pillow's `ImageOps.exif_transpose`, which also encodes the EXIF data of its result, and raises `struct.error`
    where one damaged tag, whichever it is, has no place in its type.
    """
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except MemoryError:
        raise
    except Exception:  # damaged EXIF data says nothing about the pixels
        return 1
    return int(orientation) if orientation in TURNS else 1


def _rgb_values(image: Image.Image) -> np.ndarray:
    """Return pixels of any mode as RGB, uint8, (height, width, 3) or, if gray, (height, width, 1)."""
    if image.mode.startswith(("I", "F")):  # 16-bit grayscale: Pillow's `convert` would clip at 255
        values = np.asarray(image).astype(np.float64)
        return np.clip(values / 256, 0, 255).astype(np.uint8)[..., None]
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        return np.asarray(Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB"))
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
