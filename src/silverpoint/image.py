"""8-bit RGB arrays in and out of files.

Everything a person may hand us as a picture becomes one thing here: a (H, W, 3) uint8 sRGB array, upright,
opaque.
"""

from __future__ import annotations

import contextlib
import errno
import io
import math
import os
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageChops

from silverpoint.errors import ImageError, UsageError
from silverpoint.files import whole_file

MAX_PIXELS = 2**24
"""An image comes back with at most this many pixels (16.8 million, 4096 x 4096): larger ones are scaled."""

DECODE_LIMIT = 2**27
"""An image that would need more pixels than this (134 million) in memory while it is decoded is refused."""

LARGE = 2**24
"""Images that need more pixels than this in memory are decoded one at a time, whatever the number of threads."""

# Formats that hold photographs. Pillow knows more; some of those start other programs (EPS: Ghostscript).
READABLE = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "AVIF", "JPEG2000", "TGA")
WRITABLE = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
}
_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}
_AVIF_BRANDS = {b"avif", b"avis"}
# TIFF tags (TIFF 6.0, section 8) and what they say of what Pillow reads wrongly
_BITS, _PHOTOMETRIC, _PLANAR = 258, 262, 284
_WHITE_IS_ZERO, _SEPARATE = 0, 2
_one_large = threading.Lock()


def read_image(
    source: str | os.PathLike[str] | BinaryIO | bytes,
    *,
    max_pixels: int = MAX_PIXELS,
    name: str | None = None,
) -> np.ndarray:
    """Read any photograph as a (H, W, 3) uint8 sRGB array.

    EXIF orientation is applied, transparency is laid over white, an embedded ICC profile is converted to sRGB
    (a broken one is ignored), 16-bit values are scaled to 8, and of an animation the first frame is taken.
    The file's content decides the format, not its suffix.

    An image of more than `max_pixels` comes back smaller, in proportion. A baseline JPEG is decoded at 1/2,
    1/4 or 1/8 where that is enough, so that a 100-megapixel one needs no more memory than a 33-megapixel one;
    all else is decoded whole, in 6 to 14 bytes a pixel, and refused above `DECODE_LIMIT` pixels, as is a JPEG
    of more than twice that. These limits are read from the header, before anything is decompressed, and take
    the place of Pillow's `MAX_IMAGE_PIXELS`, which is neither used nor changed here: the call is safe in any
    thread. Of images that take more than `LARGE` pixels of memory one is decoded at a time.

    `name` stands for the source in error messages (default: its path).

    Raises ImageError, one line with the name and the way out, if the source is missing, a folder, empty,
    damaged, too large, or no image.
    """
    label = name or _label(source)
    try:
        with _stream(source) as stream:
            image = _identify(stream, label)
            with _turn(_bound(image, max_pixels, label)):
                image.load()
                orientation = _orientation(image)
                image = _srgb(image, max_pixels)
            return _upright(np.array(image), orientation)
    except ImageError:
        raise
    except FileNotFoundError:
        raise ImageError(f"{label}: no such file") from None
    except IsADirectoryError:
        raise ImageError(f"{label}: is a folder, not an image") from None
    except PermissionError:
        raise ImageError(f"{label}: may not be read; check the file's permissions") from None
    except OSError as error:
        # Pillow's own, about the content, have no number
        reason = f"cannot be read ({error.strerror})" if error.errno else _damaged(error)
        raise ImageError(f"{label}: {reason}") from error
    except MemoryError:
        raise ImageError(f"{label}: does not fit into memory; save a smaller copy") from None
    # Decoders meet damaged files with anything from SyntaxError to KeyError; to a person all of them say one
    # thing.
    except Exception as error:
        raise ImageError(f"{label}: {_damaged(error)}") from error


def size_in_file(source: str | os.PathLike[str] | BinaryIO | bytes) -> tuple[int, int]:
    """Width and height as the file has them, before `read_image` turns the picture upright or makes it smaller.

    Only the header is read, of what `read_image` has read: damage is not put into words.
    """
    with _stream(source) as stream:
        return _identify(stream, _label(source)).size


def write_image(array: np.ndarray, path: str | os.PathLike[str], *, quality: int = 95) -> None:
    """Write a (H, W) or (H, W, 3) uint8 array; the suffix of `path` names the format (png jpg webp tif bmp).

    The file appears whole or not at all: it is written under a temporary name in the same folder and renamed,
    and the temporary file is removed if anything goes wrong. `quality` (1 to 100) is for JPEG and WebP.

    Raises ImageError, one line with the path and the way out, if the suffix is unknown, the folder is missing
    or read-only, or the disk is full; UsageError if the array is not an image.
    """
    path = Path(path)
    array = np.asarray(array)
    if array.dtype != np.uint8 or array.ndim < 2 or array.shape[2:] not in ((), (3,)) or not array.size:
        got = f"{array.shape} {array.dtype}"
        raise UsageError(f"{path}: an image is a (H, W) or (H, W, 3) uint8 array, not {got}")
    kind = WRITABLE.get(path.suffix.lower())
    if kind is None:
        known = " ".join(sorted(WRITABLE))
        raise ImageError(f"{path}: cannot tell the image format from the suffix; use one of {known}")
    if path.is_dir():
        raise ImageError(f"{path}: is a folder; give a file name in it")
    options: dict[str, object] = {}
    if kind in ("JPEG", "WEBP"):
        options["quality"] = quality
    if kind == "JPEG":
        options["subsampling"] = 0  # half-resolution colour smears thin strokes
    try:
        with whole_file(path) as temporary, temporary.open("wb") as stream:
            Image.fromarray(np.ascontiguousarray(array)).save(stream, format=kind, **options)
    except Exception as error:
        raise ImageError(f"{path}: {_write_reason(error, path, kind)}") from error


def _label(source: object) -> str:
    if isinstance(source, (str, os.PathLike)):
        return os.fspath(source)
    inner = getattr(source, "name", None)
    return inner if isinstance(inner, str) else "the image"


@contextlib.contextmanager
def _stream(source: str | os.PathLike[str] | BinaryIO | bytes) -> Iterator[BinaryIO]:
    """A seekable binary stream on the source; closed at the end if it was opened here."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        yield io.BytesIO(source)
    elif isinstance(source, (str, os.PathLike)):
        if os.path.isdir(source):  # Windows says "permission denied" when a folder is opened
            raise IsADirectoryError
        with open(source, "rb") as stream:
            yield stream if stream.seekable() else io.BytesIO(stream.read())
    else:
        seekable = getattr(source, "seekable", lambda: False)()
        yield source if seekable else io.BytesIO(source.read())


def _identify(stream: BinaryIO, label: str) -> Image.Image:
    """Open the stream by its content, without Pillow's bomb check: see `read_image`."""
    stream.seek(0)
    prefix = stream.read(16)
    if not prefix:
        raise ImageError(f"{label}: is empty (0 bytes)")
    if prefix[4:8] == b"ftyp" and prefix[8:12] in _HEIF_BRANDS:
        brands = stream.read(min(int.from_bytes(prefix[:4], "big"), 1024) - 16)
        if not _AVIF_BRANDS & {brands[at : at + 4] for at in range(0, len(brands), 4)}:
            return _open_heif(stream, label)
    Image.preinit()
    for kind in READABLE:
        if kind not in Image.OPEN:
            Image.init()
        if kind not in Image.OPEN:
            continue  # this Pillow was built without it
        factory, accept = Image.OPEN[kind]
        accepted = accept is None or accept(prefix)
        if not accepted or isinstance(accepted, str):
            continue
        stream.seek(0)
        try:
            return factory(stream, "")
        except (SyntaxError, IndexError, TypeError, struct.error):
            continue
    raise ImageError(f"{label}: is not an image that can be read; export it as JPEG or PNG")


def _open_heif(stream: BinaryIO, label: str) -> Image.Image:
    try:
        import pillow_heif
    except ImportError:
        raise ImageError(
            f"{label}: is a HEIC photo; run `pip install pillow-heif` to read these, or export it as JPEG"
        ) from None
    stream.seek(0)
    picture = pillow_heif.open_heif(stream)
    width, height = picture.size
    if width * height > DECODE_LIMIT:
        raise _too_large(label, width, height)
    with _turn(width * height):
        image: Image.Image = picture.to_pillow()
    return image


def _turn(pixels: int) -> contextlib.AbstractContextManager[object]:
    """What an image of so many pixels is decoded under."""
    return _one_large if pixels > LARGE else contextlib.nullcontext()


def _bound(image: Image.Image, max_pixels: int, label: str) -> int:
    """Refuse what cannot be decoded; have a large JPEG decoded at a fraction of its size.

    Returns how many pixels will be in memory.
    """
    width, height = image.size
    if width < 1 or height < 1:
        raise ImageError(f"{label}: has no pixels")
    # A progressive JPEG keeps all its coefficients in memory whatever the size it is decoded at.
    in_parts = image.format in ("JPEG", "MPO") and not image.info.get("progressive")
    if width * height > DECODE_LIMIT * (2 if in_parts else 1):
        raise _too_large(label, width, height)
    if _tag(image, _PLANAR) == _SEPARATE and max(np.ravel(_tag(image, _BITS, 8))) > 8:
        raise ImageError(f"{label}: has 16-bit colours in separate planes; save it interleaved, or in 8 bits")
    # Up to twice max_pixels is decoded whole, so that what comes back has at least half of max_pixels.
    for divisor in (1, 2, 4, 8):
        if width * height <= 2 * max_pixels * divisor**2 or divisor == 8:
            if divisor > 1 and min(width, height) >= divisor:
                image.draft(None, (width // divisor, height // divisor))  # only JPEG has drafts
            break
    return image.width * image.height if in_parts else width * height


def _tag(image: Image.Image, number: int, default: Any = None) -> Any:
    """A tag of a TIFF; the default of any other image."""
    return getattr(image, "tag_v2", {}).get(number, default)


def _too_large(label: str, width: int, height: int) -> ImageError:
    size = f"{width} x {height} is {width * height / 1e6:.0f} megapixels"
    return ImageError(f"{label}: {size}, more than can be read safely; save a smaller copy")


def _srgb(image: Image.Image, max_pixels: int) -> Image.Image:
    """The image as opaque 8-bit RGB over white, in sRGB, of at most `max_pixels`."""
    profile = image.info.get("icc_profile")
    if image.mode == "CMYK" and image.format in ("JPEG", "MPO") and "adobe" not in image.info:
        # Pillow takes every CMYK JPEG for one of Adobe's, which are stored inverted.
        image = ImageChops.invert(image)
    image = _eight_bit(image)
    alpha = None
    if image.has_transparency_data:
        grey = image.mode in ("1", "L", "LA")
        image = _shrink(_as(image, "LA" if grey else "RGBA"), max_pixels)
        alpha = image.getchannel("A")
        image = image.convert("L" if grey else "RGB")
    else:
        if image.mode not in ("L", "RGB", "CMYK", "LAB"):
            image = image.convert("L" if image.mode == "1" else "RGB")
        image = _shrink(image, max_pixels)
    image = _colour(image, profile)
    if alpha is not None:
        paper = Image.new("RGB", image.size, "white")
        paper.paste(image, mask=alpha)
        image = paper
    return image


def _eight_bit(image: Image.Image) -> Image.Image:
    """16-bit, 32-bit and floating-point grey as 8-bit grey; other images as they are.

    The high byte is what Pillow takes of 16-bit colour too; an image that was 8-bit once comes back exactly.
    """
    if image.mode.startswith("I;16"):
        values = np.array(image)
        values >>= 8
        if _tag(image, _PHOTOMETRIC) == _WHITE_IS_ZERO:  # Pillow inverts these in 8 bits, not in 16
            values ^= 255
        return Image.fromarray(values.astype(np.uint8))
    if image.mode == "I":  # 16-bit PGM, and 16-bit PNG before Pillow 11; 32-bit TIFF has no agreed white
        values = np.array(image)
        if values.max() > 65535 or values.min() < 0:
            raise ValueError("32-bit integers; 8 and 16 bits can be read")
        values >>= 8
        return Image.fromarray(values.astype(np.uint8))
    if image.mode == "F":
        values = np.array(image)
        np.nan_to_num(values, copy=False, nan=0.0, posinf=255.0, neginf=0.0)
        if values.max() <= 1:
            values *= 255
        np.rint(values, out=values)
        return Image.fromarray(np.clip(values, 0, 255, out=values).astype(np.uint8))
    return image


def _as(image: Image.Image, mode: str) -> Image.Image:
    """The image in that mode; itself if it is, of which `convert` makes a copy."""
    return image if image.mode == mode else image.convert(mode)


def _shrink(image: Image.Image, max_pixels: int) -> Image.Image:
    width, height = image.size
    if width * height <= max_pixels:
        return image
    factor = math.sqrt(max_pixels / (width * height))
    size = (max(1, int(width * factor)), max(1, int(height * factor)))
    return image.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)


def _colour(image: Image.Image, profile: bytes | None) -> Image.Image:
    """L, RGB, CMYK or LAB to sRGB, through the embedded profile where there is a usable one."""
    if not profile and image.mode != "LAB":
        return _as(image, "RGB")
    try:
        from PIL import ImageCms
    except ImportError:  # a Pillow built without Little CMS
        return _as(image, "RGB")
    try:
        embedded = ImageCms.ImageCmsProfile(io.BytesIO(profile)) if profile else ImageCms.createProfile("LAB")
        about = ImageCms.getProfileDescription(embedded) if profile else ""
        if image.mode == "RGB" and "sRGB" in about and "linear" not in about.lower():
            return image
        srgb = ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, embedded, srgb, outputMode="RGB")
        return converted or _as(image, "RGB")
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError):  # broken, or for another colour space
        return _as(image, "RGB")


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 if there is none or the EXIF block is broken."""
    try:
        value = image.getexif().get(0x0112, 1)
    except Exception:  # a picture is no worse for a broken EXIF block
        return 1
    return value if value in range(1, 9) else 1


def _upright(array: np.ndarray, orientation: int) -> np.ndarray:
    """Undo the camera's rotation or mirroring, `orientation` as EXIF numbers it (tag 0x0112)."""
    if orientation in (5, 6, 7, 8):
        array = array.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return np.ascontiguousarray(array)


def _damaged(error: Exception) -> str:
    return f"is damaged or incomplete ({_reason(error)}); copy it again"


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _write_reason(error: Exception, path: Path, kind: str) -> str:
    if isinstance(error, FileNotFoundError) or (isinstance(error, OSError) and not path.parent.is_dir()):
        return f"cannot be written, there is no folder {path.parent}"
    if isinstance(error, PermissionError) or getattr(error, "errno", None) in (errno.EROFS, errno.EACCES):
        return f"cannot be written, the folder {path.parent} is read-only; choose another"
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
        return "cannot be written, the disk is full; make room or choose another folder"
    return f"cannot be written as {kind} ({_reason(error)})"


def to_grey(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 RGB -> (H, W) uint8: PIL's L, the ITU-R 601 luma that every metric here reads."""
    return np.asarray(Image.fromarray(image).convert("L"))
