"""Every kind of picture in, one kind of array out; whole files out, or none."""

import errno
import io
import os
import struct
import sys
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps, features

from silverpoint import image as module
from silverpoint.errors import ImageError, UsageError
from silverpoint.image import read_image, write_image


def gradient(height=24, width=36):
    """An image no rotation or mirroring of which is itself, smooth enough for JPEG."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 255 // width, y * 255 // height, (x + y) * 120 // (height + width)], -1).astype(
        np.uint8
    )


def encoded(image, kind, **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def png(width, height, depth, colour_type, rows, *, extra=b""):
    """A PNG written by hand: Pillow cannot write 16-bit colour."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def close(a, b, most):
    assert a.shape == b.shape
    assert a.dtype == np.uint8
    assert np.abs(a.astype(int) - b.astype(int)).max() <= most


def refused(source, *words, **options):
    """The error's one line, which has all the words."""
    with pytest.raises(ImageError) as caught:
        read_image(source, **options)
    line = str(caught.value)
    assert "\n" not in line
    assert "Traceback" not in line
    for word in words:
        assert word in line, line
    return line


# ---------------------------------------------------------------- reading: sources and kinds


def test_path_text_stream_and_bytes_are_the_same(tmp_path):
    data = encoded(Image.fromarray(gradient()), "PNG")
    path = tmp_path / "a.png"
    path.write_bytes(data)
    with open(path, "rb") as stream:
        sources = [path, str(path), data, io.BytesIO(data), stream]
        for source in sources:
            result = read_image(source)
            assert np.array_equal(result, gradient())
            assert result.flags.writeable
            assert result.flags.c_contiguous


def test_stream_that_cannot_seek():
    read, write = os.pipe()
    with os.fdopen(write, "wb") as sink:
        sink.write(encoded(Image.fromarray(gradient()), "PNG"))
    with os.fdopen(read, "rb") as source:
        assert np.array_equal(read_image(source), gradient())


def test_content_decides_not_the_suffix(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(encoded(Image.fromarray(gradient()), "PNG"))
    assert np.array_equal(read_image(path), gradient())


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "TGA"])
def test_lossless_formats(kind):
    assert np.array_equal(read_image(encoded(Image.fromarray(gradient()), kind)), gradient())


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_lossy_formats(kind):
    close(read_image(encoded(Image.fromarray(gradient()), kind, quality=95)), gradient(), 20)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(kind, orientation):
    stored = Image.fromarray(gradient())
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(stored, kind, exif=exif, **({"quality": 98} if kind in ("JPEG", "WEBP") else {}))
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    result = read_image(data)
    close(result, np.asarray(expected), 0)
    assert result.shape == ((36, 24, 3) if orientation >= 5 else (24, 36, 3))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_broken_exif_is_ignored():
    data = encoded(Image.fromarray(gradient()), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\xff\xff\xff")
    assert read_image(data).shape == (24, 36, 3)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "P"])
def test_transparency_lies_over_white(mode):
    image = Image.new("RGBA", (8, 6), (0, 0, 0, 255))
    image.paste((0, 0, 0, 0), (0, 0, 4, 6))
    if mode == "P":
        image = Image.new("P", (8, 6), 1)
        image.putpalette([10, 200, 30, 0, 0, 0])
        image.paste(0, (0, 0, 4, 6))
        data = encoded(image, "PNG", transparency=0)
    elif mode == "PA":
        data = encoded(image.quantize(4), "PNG")
    else:
        data = encoded(image.convert(mode), "PNG")
    result = read_image(data)
    assert (result[:, :4] == 255).all()
    assert (result[:, 4:] == 0).all()


def test_half_transparent():
    assert (read_image(encoded(Image.new("RGBA", (3, 3), (255, 0, 0, 128)), "PNG")) == [255, 127, 127]).all()


def test_transparent_colour_of_an_rgb_png():
    image = Image.new("RGB", (4, 2), (10, 20, 30))
    image.putpixel((0, 0), (1, 2, 3))
    result = read_image(encoded(image, "PNG", transparency=(1, 2, 3)))
    assert (result[0, 0] == 255).all()
    assert (result[1, 1] == [10, 20, 30]).all()


def test_grey_and_one_bit():
    grey = gradient()[:, :, 0]
    assert np.array_equal(read_image(encoded(Image.fromarray(grey), "PNG")), np.stack([grey] * 3, -1))
    result = read_image(encoded(Image.fromarray(grey > 100), "PNG"))
    assert np.array_equal(result[:, :, 1], (grey > 100) * np.uint8(255))


def test_16_bit_grey_is_scaled_not_clipped():
    grey = np.arange(256, dtype=np.uint16).reshape(16, 16) * 257
    rows = [row.astype(">u2").tobytes() for row in grey]
    files = [encoded(Image.fromarray(grey), kind) for kind in ("PNG", "TIFF")]
    files += [png(16, 16, 16, 0, rows), b"P5 16 16 65535\n" + b"".join(rows)]
    for data in files:
        assert np.array_equal(read_image(data)[:, :, 0].ravel(), np.arange(256)), data[:8]


def test_16_bit_colour_is_scaled_not_clipped():
    colour = gradient().astype(np.uint16) * 257
    rows = [row.astype(">u2").tobytes() for row in colour]
    assert np.array_equal(read_image(png(36, 24, 16, 2, rows)), gradient())


def test_16_bit_alpha():
    pixels = np.zeros((4, 4, 4), ">u2")
    pixels[:2, :, 3] = 65535
    result = read_image(png(4, 4, 16, 6, [row.tobytes() for row in pixels]))
    assert (result[:2] == 0).all()
    assert (result[2:] == 255).all()


def tiff(values, **tags):
    """A (H, W) or (C, H, W) uint16 array as a TIFF written by hand: Pillow writes neither inverted nor planar ones."""
    height, width = values.shape[-2:]
    planes = 1 if values.ndim == 2 else len(values)
    data = values.astype("<u2").tobytes()
    entries = {256: [width], 257: [height], 258: [16] * planes, 259: [1], 262: [2 if planes > 1 else 1]}
    entries |= {277: [planes], 278: [height], 284: [1]} | {int(tag[1:]): value for tag, value in tags.items()}
    entries |= {273: [0] * planes, 279: [len(data) // planes] * planes}
    at = 8 + 2 + 12 * len(entries) + 4
    extra, starts = b"", at + sum(4 * len(v) for v in entries.values() if len(v) > 1)
    entries[273] = [starts + n * (len(data) // planes) for n in range(planes)]
    table = b""
    for tag, numbers in sorted(entries.items()):
        packed = struct.pack(f"<{len(numbers)}I", *numbers)
        if len(packed) > 4:
            packed, extra = struct.pack("<I", at + len(extra)), extra + packed
        table += struct.pack("<HHI", tag, 4, len(numbers)) + packed
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + table + bytes(4) + extra + data


def test_16_bit_tiff_whose_zero_is_white_is_not_a_negative():
    grey = np.arange(256, dtype=np.uint16).reshape(16, 16) * 257
    assert np.array_equal(read_image(tiff(grey))[:, :, 0].ravel(), np.arange(256))
    assert np.array_equal(read_image(tiff(grey, _262=[0]))[:, :, 0].ravel(), np.arange(256)[::-1])


def test_16_bit_tiff_in_planes_is_refused_and_an_8_bit_one_is_read():
    colour = (gradient().astype(np.uint16) * 257).transpose(2, 0, 1)
    refused(tiff(colour, _284=[2]), "separate planes", "8 bits")
    stream = io.BytesIO()
    Image.fromarray(gradient()).save(stream, "TIFF", tiffinfo={284: 1})
    assert np.array_equal(read_image(stream.getvalue()), gradient())


def test_float_tiff():
    values = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    close(
        read_image(encoded(Image.fromarray(values), "TIFF"))[:, :, 0],
        np.rint(values * 255).astype(np.uint8),
        0,
    )


def test_32_bit_integers_are_refused():
    values = np.full((4, 4), 2**20, np.int32)
    refused(encoded(Image.fromarray(values), "TIFF"), "32-bit")


def test_cmyk_jpeg_as_adobe_writes_it_and_without_the_marker():
    image = Image.new("CMYK", (16, 16), (0, 255, 255, 0))  # red
    adobe = encoded(image, "JPEG", quality=98)
    close(read_image(adobe), np.full((16, 16, 3), (254, 0, 0), np.uint8), 3)
    # Without the marker the values are not inverted: the same bytes mean the opposite inks.
    at = adobe.index(b"\xff\xee")
    length = struct.unpack(">H", adobe[at + 2 : at + 4])[0]
    plain = adobe[:at] + adobe[at + 2 + length :]
    inks = Image.new("CMYK", (16, 16), (255, 0, 0, 255)).convert("RGB")
    close(read_image(plain), np.asarray(inks), 3)


def test_cmyk_and_lab_tiff():
    close(
        read_image(encoded(Image.new("CMYK", (4, 4), (255, 0, 255, 0)), "TIFF")),
        np.full((4, 4, 3), (0, 255, 0), np.uint8),
        1,
    )
    lab = Image.new("LAB", (4, 4), (255, 128, 128))
    close(read_image(encoded(lab, "TIFF")), np.full((4, 4, 3), 255, np.uint8), 2)


def test_animations_give_their_first_frame():
    frames = [Image.new("RGB", (10, 8), colour) for colour in ("red", "lime", "blue")]
    for kind in ("GIF", "WEBP", "PNG", "TIFF"):
        options = {"lossless": True} if kind == "WEBP" else {}
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        close(read_image(data), np.full((8, 10, 3), (255, 0, 0), np.uint8), 2)


def profile_swapping_red_and_green():
    """An RGB profile whose red and green primaries are exchanged: what it does cannot be missed."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = struct.unpack(">I", data[128:132])[0]
    where = {bytes(data[132 + 12 * i : 136 + 12 * i]): 132 + 12 * i for i in range(count)}
    for first, second in ((b"rXYZ", b"gXYZ"),):
        a, b = where[first] + 4, where[second] + 4
        data[a : a + 8], data[b : b + 8] = data[b : b + 8], data[a : a + 8]
    return bytes(data).replace("sRGB".encode("utf-16-be"), "swap".encode("utf-16-be"))


def test_embedded_profile_is_converted_to_srgb():
    image = Image.new("RGB", (8, 8), (255, 0, 0))
    profile = profile_swapping_red_and_green()
    for data in (
        encoded(image, "PNG", icc_profile=profile),
        encoded(image, "JPEG", icc_profile=profile, quality=98, subsampling=0),
    ):
        close(read_image(data), np.full((8, 8, 3), (0, 255, 0), np.uint8), 4)
    half = Image.new("RGBA", (8, 8), (255, 0, 0, 128))
    close(
        read_image(encoded(half, "PNG", icc_profile=profile)),
        np.full((8, 8, 3), (127, 255, 127), np.uint8),
        4,
    )


def test_srgb_profile_changes_nothing():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert np.array_equal(
        read_image(encoded(Image.fromarray(gradient()), "PNG", icc_profile=profile)), gradient()
    )


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
@pytest.mark.parametrize("profile", [b"nonsense", "cmyk-like"])
def test_broken_or_foreign_profile_is_ignored(mode, profile):
    if profile == "cmyk-like":
        profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    image = Image.fromarray(gradient()).convert(mode)
    data = encoded(image, "PNG", icc_profile=profile)
    assert np.array_equal(read_image(data), np.asarray(image.convert("RGB")))


def test_one_pixel():
    assert np.array_equal(read_image(encoded(Image.new("RGB", (1, 1), (1, 2, 3)), "PNG")), [[[1, 2, 3]]])


# ---------------------------------------------------------------- reading: what is refused


def test_missing_folder_and_empty(tmp_path):
    refused(tmp_path / "no.jpg", "no.jpg", "no such file")
    refused(tmp_path, str(tmp_path), "folder")
    (tmp_path / "zero.jpg").touch()
    refused(tmp_path / "zero.jpg", "zero.jpg", "empty")
    refused(b"", "empty")


@pytest.mark.skipif(os.name == "nt", reason="other errors there")
def test_a_path_that_cannot_be_followed_is_not_called_damaged(tmp_path):
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    (tmp_path / "a.jpg").touch()
    for path in (tmp_path / "loop.jpg", tmp_path / "a.jpg" / "b.jpg", tmp_path / ("a" * 300 + ".jpg")):
        assert "damaged" not in refused(path, str(path), "cannot be read (")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="no file is closed to root")
def test_a_file_that_may_not_be_read(tmp_path):
    path = tmp_path / "locked.jpg"
    path.write_bytes(encoded(Image.fromarray(gradient()), "JPEG"))
    path.chmod(0)
    refused(path, "locked.jpg", "may not be read", "permissions")


def test_a_disk_that_fails_is_not_a_damaged_file():
    class Failing(io.BytesIO):
        def read(self, size=-1):
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    assert "damaged" not in refused(Failing(b"x"), "cannot be read (", os.strerror(errno.EIO))


def test_not_an_image(tmp_path):
    (tmp_path / "notes.jpg").write_text("dear diary")
    refused(tmp_path / "notes.jpg", "notes.jpg", "not an image")
    refused(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image")
    refused(b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image")


def test_name_stands_for_the_source():
    assert refused(b"x", name="upload").startswith("upload:")
    stream = io.BytesIO(b"x")
    stream.name = "stream.jpg"
    assert refused(stream).startswith("stream.jpg:")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP"])
def test_truncated(tmp_path, kind):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    data = encoded(Image.fromarray(noise), kind)
    path = tmp_path / f"cut.{kind.lower()}"
    path.write_bytes(data[: len(data) // 2])
    refused(path, path.name)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_garbage_after_any_magic_is_one_line():
    rng = np.random.default_rng(1)
    for kind in ("JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP", "PPM"):
        data = bytearray(encoded(Image.fromarray(gradient()), kind))
        for _ in range(30):
            damaged = data.copy()
            for place in rng.integers(8, len(data), 12):
                damaged[place] = rng.integers(256)
            try:
                line = str(read_image(bytes(damaged)).shape)  # harmless damage
            except ImageError as error:
                line = str(error)
            assert "\n" not in line


def test_bomb_is_refused_by_its_header():
    data = png(60000, 60000, 8, 2, [])
    refused(data, "3600 megapixels", "smaller copy")


def test_limits_do_not_touch_pillow():
    before = Image.MAX_IMAGE_PIXELS
    refused(png(60000, 60000, 8, 2, []))
    assert before == Image.MAX_IMAGE_PIXELS


def test_hundred_megapixel_jpeg(recwarn):
    wide = Image.new("L", (11600, 8700), 200)  # 101 megapixels
    result = read_image(encoded(wide, "JPEG"))
    assert module.MAX_PIXELS // 2 <= result.shape[0] * result.shape[1] <= module.MAX_PIXELS
    assert abs(result.shape[1] / result.shape[0] - 4 / 3) < 1e-3
    assert np.abs(result.astype(int) - 200).max() <= 1
    assert not recwarn


def test_progressive_jpeg_is_held_to_the_tighter_limit(monkeypatch):
    monkeypatch.setattr(module, "DECODE_LIMIT", 1000)
    image = Image.new("RGB", (40, 30))
    assert read_image(encoded(image, "JPEG")).shape == (30, 40, 3)
    refused(encoded(image, "JPEG", progressive=True), "smaller copy")


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("most", [1, 50, 1000, 12345, 10**9])
def test_max_pixels(kind, most):
    y, x = np.mgrid[:300, :400]
    image = (np.stack([x / 400, y / 300, x * 0], -1) * 255).astype(np.uint8)
    result = read_image(encoded(Image.fromarray(image), kind), max_pixels=most)
    pixels = result.shape[0] * result.shape[1]
    assert pixels <= most
    if most > 50:
        assert pixels > min(most, 120000) / 2.2
        expected = np.asarray(Image.fromarray(image).resize(result.shape[1::-1], Image.Resampling.BOX))
        assert np.abs(result.astype(int) - expected).mean() < 4


def test_max_pixels_of_16_bit_and_transparent():
    grey = np.full((300, 400), 257 * 100, np.uint16)
    assert (read_image(encoded(Image.fromarray(grey), "PNG"), max_pixels=500) == 100).all()
    clear = Image.new("RGBA", (300, 400), (0, 0, 0, 0))
    assert (read_image(encoded(clear, "PNG"), max_pixels=500) == 255).all()


HEIC = struct.pack(">I", 24) + b"ftypheic" + bytes(4) + b"mif1heic" + bytes(100)


def test_heic_without_the_reader_says_how(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    refused(HEIC, "HEIC", "pip install pillow-heif", "JPEG")


def test_heic():
    heif = pytest.importorskip("pillow_heif", reason="pillow-heif reads HEIC; it is not installed")
    picture = np.kron(gradient(6, 9), np.ones((16, 16, 1), np.uint8))
    stream = io.BytesIO()
    try:
        heif.from_pillow(Image.fromarray(picture)).save(stream, quality=95)
    except (RuntimeError, OSError, ValueError):
        pytest.skip("this pillow-heif cannot write HEIC")
    close(read_image(stream.getvalue()), picture, 60)
    refused(HEIC, "damaged")


@pytest.mark.skipif(
    "avif" not in features.modules or not features.check("avif"), reason="this Pillow has no AVIF"
)
def test_avif():
    data = encoded(Image.fromarray(gradient()), "AVIF", quality=95)
    close(read_image(data), gradient(), 30)
    assert data[8:12] == b"avif"
    close(read_image(data[:8] + b"mif1" + data[12:]), gradient(), 30)  # one that names its container first


def test_large_images_are_decoded_one_at_a_time(monkeypatch):
    active, most, count = 0, 0, threading.Lock()
    srgb = module._srgb

    def watched(image, max_pixels):
        nonlocal active, most
        with count:
            active += 1
            most = max(most, active)
        time.sleep(0.02)
        with count:
            active -= 1
        return srgb(image, max_pixels)

    monkeypatch.setattr(module, "_srgb", watched)
    data = encoded(Image.fromarray(gradient()), "PNG")
    for large, expected in ((10, {1}), (10**6, {2, 3, 4})):
        most = 0
        monkeypatch.setattr(module, "LARGE", large)
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(read_image, [data] * 4))
        assert most in expected


def test_threads_read_the_same():
    data = [encoded(Image.fromarray(np.roll(gradient(), i, 1)), "PNG") for i in range(8)]
    results = [None] * 8

    def work(i):
        for _ in range(5):
            results[i] = read_image(data[i])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    for i in range(8):
        assert np.array_equal(results[i], np.roll(gradient(), i, 1))


# ---------------------------------------------------------------- writing


@pytest.mark.parametrize("suffix", [".png", ".PNG", ".tif", ".tiff", ".bmp"])
@pytest.mark.parametrize("grey", [False, True])
def test_write_lossless(tmp_path, suffix, grey):
    array = gradient()[:, :, 0] if grey else gradient()
    path = tmp_path / f"out{suffix}"
    write_image(array, path)
    result = read_image(path)
    assert np.array_equal(result[:, :, 0] if grey else result, array)
    assert Image.open(path).mode == ("L" if grey else "RGB")
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".webp"])
def test_write_lossy(tmp_path, suffix):
    path = tmp_path / f"out{suffix}"
    write_image(gradient(), str(path))
    close(read_image(path), gradient(), 16)
    large = path.stat().st_size
    write_image(gradient(), path, quality=10)
    assert path.stat().st_size < large


def test_write_takes_views(tmp_path):
    array = gradient()[::-2, 3:20]
    write_image(array, tmp_path / "view.png")
    assert np.array_equal(read_image(tmp_path / "view.png"), array)


def not_written(array, path, *words):
    before = sorted(os.listdir(path.parent)) if path.parent.is_dir() else None
    with pytest.raises(ImageError) as caught:
        write_image(array, path)
    line = str(caught.value)
    assert "\n" not in line
    assert str(path) in line
    for word in words:
        assert word in line, line
    if before is not None:
        assert sorted(os.listdir(path.parent)) == before


@pytest.mark.parametrize("name", ["a.xyz", "a", "a.gif", "a.pdf"])
def test_write_unknown_suffix(tmp_path, name):
    not_written(gradient(), tmp_path / name, "suffix", ".png")


def test_write_into_nowhere_or_onto_a_folder(tmp_path):
    not_written(gradient(), tmp_path / "no" / "a.png", "no folder")
    (tmp_path / "a.png").mkdir()
    not_written(gradient(), tmp_path / "a.png", "is a folder")
    (tmp_path / "file").touch()
    not_written(gradient(), tmp_path / "file" / "a.png", "no folder")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="no folder is read-only to root")
def test_write_into_a_read_only_folder(tmp_path):
    folder = tmp_path / "locked"
    folder.mkdir()
    folder.chmod(0o500)
    try:
        not_written(gradient(), folder / "a.png", "read-only")
    finally:
        folder.chmod(0o700)


@pytest.mark.parametrize(
    ("code", "word"),
    [
        (errno.ENOSPC, "disk is full"),
        (errno.EDQUOT, "disk is full"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "read-only"),
        (errno.EIO, "cannot be written"),
    ],
)
def test_write_failing_half_way_leaves_what_was_there(tmp_path, monkeypatch, code, word):
    path = tmp_path / "a.png"
    write_image(gradient(), path)

    def save(self, stream, **options):
        stream.write(b"half a picture")
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(Image.Image, "save", save)
    not_written(255 - gradient(), path, word)
    monkeypatch.undo()
    assert np.array_equal(read_image(path), gradient())


def test_interrupt_while_writing_removes_the_temporary_file(tmp_path, monkeypatch):
    def save(self, stream, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(Image.Image, "save", save)
    with pytest.raises(KeyboardInterrupt):
        write_image(gradient(), tmp_path / "a.png")
    assert os.listdir(tmp_path) == []


def test_write_too_large_for_the_format(tmp_path):
    not_written(np.zeros((1, 20000), np.uint8), tmp_path / "a.webp", "WEBP")


@pytest.mark.parametrize(
    "array",
    [np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4)), np.zeros(4, np.uint8), np.zeros((0, 4), np.uint8)],
)
def test_write_of_no_image_is_a_usage_error(tmp_path, array):
    with pytest.raises(UsageError):
        write_image(array, tmp_path / "a.png")


def test_written_file_has_ordinary_permissions(tmp_path):
    (tmp_path / "plain").touch()
    write_image(gradient(), tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_mode == (tmp_path / "plain").stat().st_mode
