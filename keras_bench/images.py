"""The only image decoder: every supported file becomes upright RGB, uint8.

Training, audit, report and the exported bundle all read images through `decode`, so a deployed model sees exactly
the pixels it was trained on. Only Pillow and NumPy are used.
"""

import io
import warnings

import numpy as np
import PIL
from PIL import ExifTags, Image, ImageFile

# Raise it whenever `decode` returns other pixels for some file than before, or accepts or rejects other files: cached
# images and features of the earlier decoder are then no longer used. Pillow's version is part of the key too.
DECODER_VERSION = 2
EXTENSIONS = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".webp")
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP")
MAX_PIXELS = 178_956_970  # 2 × Image.MAX_IMAGE_PIXELS, above which Pillow raises DecompressionBombError
# What turns an image upright, by its EXIF orientation; 1 is upright.
TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

ImageFile.LOAD_TRUNCATED_IMAGES = False
# The line does not say which file it is about, and the pixels are not affected.
warnings.filterwarnings("ignore", message="Corrupt EXIF data", category=UserWarning, module="PIL")


class UnreadableImageError(ValueError):
    """The bytes are not a complete image in a supported format; the message says why in one line."""


def is_image_name(name: str) -> bool:
    """Return whether a file name has the extension of a supported format; hidden files do not count."""
    return name.lower().endswith(EXTENSIONS) and not name.startswith(".")


def decode(data: bytes) -> np.ndarray:
    """Decode one image file.

    JPEG, PNG, BMP, WebP and the first frame of a GIF are read. Grayscale, palette, CMYK and 16-bit images become
    RGB; 16-bit values keep their upper 8 bits; transparency is composited over white; the EXIF orientation is
    applied, and EXIF data that cannot be read is ignored.

    Args:
        data: the file's content.

    Returns:
        uint8, (height, width, 3), RGB in [0, 255].

    Raises:
        UnreadableImageError: the bytes are empty, of an unknown format, truncated or damaged, or the image has more
            than 178,956,970 pixels.
    """
    if not data:
        raise UnreadableImageError("the file is empty")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise UnreadableImageError(f"{image.width}×{image.height} pixels are more than {MAX_PIXELS:,}")
            return np.asarray(_to_rgb(_upright(image)), dtype=np.uint8)
    except Image.UnidentifiedImageError as error:
        raise UnreadableImageError("not a JPEG, PNG, BMP, GIF or WebP image") from error
    except Image.DecompressionBombError as error:
        raise UnreadableImageError(f"more than {MAX_PIXELS:,} pixels") from error
    except (UnreadableImageError, MemoryError):
        raise
    except Exception as error:  # Pillow reports damage through nearly any exception, depending on the format
        raise UnreadableImageError(f"damaged or truncated ({error})") from error


def read_header(data: bytes) -> tuple[str, str]:
    """Return a file's format and colour mode, e.g. ("JPEG", "L"), without decoding its pixels.

    Raises:
        UnreadableImageError: the bytes are in no supported format.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            return str(image.format), image.mode
    except MemoryError:
        raise
    except Exception as error:  # as in `decode`
        raise UnreadableImageError("not a JPEG, PNG, BMP, GIF or WebP image") from error


def decoder_name() -> str:
    """Return the versions that determine the pixels of `decode`, e.g. "decoder-1-pillow-12.0.0"."""
    return f"decoder-{DECODER_VERSION}-pillow-{PIL.__version__}"


def encode_png(image: np.ndarray) -> bytes:
    """Encode uint8 pixels, (height, width) or (height, width, 3), as PNG, which `decode` reads back unchanged."""
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, format="PNG")
    return stream.getvalue()


def _upright(image: Image.Image) -> Image.Image:
    """Return the image turned as its EXIF orientation says; as it is where that is missing or cannot be read.

    Not by Pillow's `ImageOps.exif_transpose`, which also encodes the EXIF data of its result, and raises `struct.error`
    where one damaged tag, whichever it is, has no place in its type.
    """
    image.load()  # before `getexif`: a PNG's EXIF data may come after its pixels
    try:
        method = TRANSPOSE.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except MemoryError:
        raise
    except Exception:  # damaged EXIF data says nothing about the pixels
        return image
    return image if method is None else image.transpose(method)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):  # 16-bit grayscale: Pillow's `convert` would clip at 255
        values = np.asarray(image).astype(np.float64)
        return Image.fromarray(np.clip(values / 256, 0, 255).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")
