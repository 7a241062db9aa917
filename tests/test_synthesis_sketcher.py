"""A photograph of any kind in, a drawing in its proportions out."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import silverpoint
from silverpoint.errors import FaceError, ImageError, UsageError
from silverpoint.faces.detect import Face
from silverpoint.synthesis.sketcher import Sketcher, drawing_size, eye_distance


@pytest.fixture(scope="module")
def sketcher(tiny_model: Path) -> Sketcher:
    return silverpoint.load(tiny_model, threads=2)


def face(eyes: float, mouth: float = 0.0) -> Face:
    """A face with its eyes `eyes` px apart, its mouth `mouth` px below them (in proportion if 0)."""
    mouth = mouth or eyes * 55 / 50
    points = [(0, 0), (eyes, 0), (eyes / 2, mouth / 2), (eyes / 4, mouth), (eyes * 3 / 4, mouth)]
    return Face((0, 0, 2 * eyes, 3 * eyes), np.array(points, np.float32), 1.0)


def found(monkeypatch: pytest.MonkeyPatch, *faces: Face) -> None:
    monkeypatch.setattr("silverpoint.synthesis.sketcher.detect", lambda image, **_: list(faces))


def test_import_is_quick_and_light() -> None:
    code = (
        "import sys, time; start = time.perf_counter(); import silverpoint; dir(silverpoint)\n"
        "assert time.perf_counter() - start < 0.3\n"
        "assert not {'torch', 'onnxruntime', 'numpy', 'PIL'} & set(sys.modules)\n"
        "silverpoint.load\n"
        "assert not {'torch', 'onnxruntime'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_public_names_are_there() -> None:
    for name in silverpoint.__all__:
        assert getattr(silverpoint, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'paint'"):
        silverpoint.paint  # noqa: B018


def test_portrait_is_the_whole_picture_as_one_drawing(sketcher: Sketcher, portrait: Path) -> None:
    sketch = sketcher.sketch(portrait)
    assert (
        sketch.size[0] == sketch.size[1] == pytest.approx(500, abs=10)
    )  # its eyes, 101 px apart, come to 75
    assert sketch.image.dtype == np.uint8
    assert len(sketch.faces) == 1
    assert sketch.style == "cufs"
    drawn = sketcher.sketch(portrait, size=675).image
    grey = np.asarray(Image.open(portrait)).mean(axis=2)
    # the tiny model draws the grey of the photo, at edges a trace of the smaller drawing's
    np.testing.assert_allclose(drawn, grey, atol=3)


def test_face_is_upright_in_the_frame(sketcher: Sketcher, portrait: Path) -> None:
    upright = sketcher.sketch(portrait, view="face")
    assert upright.size == (200, 250)
    tilted = Image.open(portrait).rotate(20, resample=Image.Resampling.BICUBIC, fillcolor="white")
    again = sketcher.sketch(tilted, view="face")
    centre = np.s_[75:200, 50:150]
    assert np.abs(again.image[centre].astype(int) - upright.image[centre]).mean() < 8
    assert sketcher.sketch(portrait, view="face", size=500).size == (400, 500)


def test_every_kind_of_source_gives_the_same(sketcher: Sketcher, portrait: Path) -> None:
    image = Image.open(portrait)
    expected = sketcher.sketch(portrait, view="whole").image
    sources = [
        str(portrait),
        portrait.read_bytes(),
        io.BytesIO(portrait.read_bytes()),
        image,
        np.array(image),
    ]
    for source in sources:
        np.testing.assert_array_equal(sketcher.sketch(source, view="whole").image, expected)


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "PA", "RGBA", "CMYK", "YCbCr", "LAB", "I;16", "I", "F"]
)
def test_pil_images_of_any_mode(sketcher: Sketcher, mode: str) -> None:
    if mode == "LAB":
        image = Image.new("LAB", (40, 30), (200, 128, 128))
    else:
        image = Image.new("RGB", (40, 30), "white").convert(
            "L" if mode == "I;16" else mode.replace("PA", "P")
        )
        image = image.convert(mode) if mode in ("I;16", "PA") else image
    assert sketcher.sketch(image, view="whole").size == (40, 30)


def test_pil_orientation_and_alpha_are_applied(sketcher: Sketcher) -> None:
    image = Image.new("RGBA", (40, 30), (0, 0, 0, 0))
    assert sketcher.sketch(image, view="whole").image.min() == 255
    turned = Image.new("RGB", (40, 30))
    turned.getexif()[0x0112] = 6
    assert sketcher.sketch(turned, view="whole").size == (30, 40)


def test_a_pil_image_cut_short_is_one_line(sketcher: Sketcher, portrait: Path) -> None:
    image = Image.open(io.BytesIO(portrait.read_bytes()[:20_000]))
    with pytest.raises(ImageError, match=r"^the image: is damaged or incomplete \(.*truncated"):
        sketcher.sketch(image)


def test_a_small_face_raises_the_limit_for_local_networks_alone(
    tmp_path: Path, write_model: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    found(monkeypatch, face(45))
    photo = np.zeros((1200, 1600, 3), np.uint8)
    for margin, expected in ((16, (1778, 1333)), (None, (1265, 949))):
        sketcher = silverpoint.load(write_model(tmp_path / "m.onnx", receptive_margin=margin), threads=1)
        assert sketcher.sketch(photo).size == expected


def test_arrays_are_checked(sketcher: Sketcher) -> None:
    assert sketcher.sketch(np.zeros((30, 40), np.uint8), view="whole").size == (40, 30)
    for wrong in (np.zeros((4, 4, 3)), np.zeros((4, 4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8)):
        with pytest.raises(ImageError, match="expected"):
            sketcher.sketch(wrong)


def test_no_face(sketcher: Sketcher, tmp_path: Path) -> None:
    path = tmp_path / "wall.png"
    Image.new("RGB", (300, 200), "white").save(path)
    with pytest.raises(FaceError, match=r"wall\.png: no face found; `--face none`"):
        sketcher.sketch(path)
    with pytest.raises(FaceError, match="the image: no face"):
        sketcher.sketch_faces(np.full((300, 200, 3), 255, np.uint8))
    assert sketcher.sketch(path, view="whole").size == (300, 200)


def test_several_faces(sketcher: Sketcher, monkeypatch: pytest.MonkeyPatch) -> None:
    found(monkeypatch, face(200), face(60))
    photo = np.zeros((600, 800, 3), np.uint8)
    assert sketcher.sketch(photo).size == (300, 225)  # the largest face is 4 times the frame's
    assert len(sketcher.sketch(photo).faces) == 2
    faces = sketcher.sketch_faces(photo)
    assert [sketch.size for sketch in faces] == [(200, 250), (200, 250)]


def test_what_is_not_there_is_refused(sketcher: Sketcher) -> None:
    photo = np.zeros((20, 20, 3), np.uint8)
    with pytest.raises(UsageError, match="no view 'profile'"):
        sketcher.sketch(photo, view="profile")
    with pytest.raises(UsageError, match="no style 'oil'"):
        sketcher.sketch(photo, style="oil")
    for size in (0, -5, 15, 10**6):
        with pytest.raises(UsageError, match="size must be between"):
            sketcher.sketch(photo, size=size)


@pytest.mark.parametrize(
    ("photo", "eyes", "size", "expected"),
    [
        ((600, 400), 77, None, (600, 400)),  # close enough to one and a half times the frame's scale
        ((4000, 3000), 500, None, (600, 450)),  # down to one and a half times the frame's
        ((600, 400), 65, None, (600, 400)),  # between once and that: as it is
        ((300, 200), 25, None, (600, 400)),  # up to the frame's
        ((6000, 4000), 250, None, (1342, 894)),  # no more than 1.2 megapixels
        ((6000, 4000), 175, None, (1714, 1143)),  # but for a small face, which is drawn at the frame's scale
        ((6000, 4000), 50, None, (1936, 1291)),  # and no more than 2.5 megapixels
        ((4000, 3000), 500, 2000, (2000, 1500)),
        ((300, 200), 25, 60, (60, 40)),
        ((300, 200), None, None, (300, 200)),
        ((6000, 4000), None, None, (1342, 894)),
        ((100000, 20), None, 1000, (1000, 1)),
        ((1, 1), None, None, (1, 1)),
    ],
)
def test_drawing_size(
    photo: tuple[int, int], eyes: float | None, size: int | None, expected: tuple[int, int]
) -> None:
    image = np.broadcast_to(np.uint8(0), (photo[1], photo[0], 3))
    assert drawing_size(image, eyes / 50 if eyes else None, size) == expected


def test_a_turned_head_is_not_taken_for_a_small_one() -> None:
    assert eye_distance(face(50)) == pytest.approx(50)
    assert eye_distance(face(30, mouth=55)) == pytest.approx(50)


def test_a_sketch_is_an_array_a_file_and_a_picture(sketcher: Sketcher, tmp_path: Path) -> None:
    sketch = sketcher.sketch(np.zeros((30, 40, 3), np.uint8), view="whole")
    assert np.asarray(sketch) is sketch.image
    assert np.array(sketch, dtype=float).dtype == float
    assert Image.fromarray(np.asarray(sketch)).size == sketch.size
    assert sketch._repr_png_().startswith(b"\x89PNG")
    assert Image.open(sketch.save(tmp_path / "a.png")).size == (40, 30)
    with pytest.raises(ImageError, match=r"a\.xyz"):
        sketch.save(tmp_path / "a.xyz")


def test_a_large_drawing_is_drawn_in_tiles(
    tmp_path: Path, write_model: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    sketcher = silverpoint.load(write_model(tmp_path / "m.onnx", depth=4), threads=2)
    photo = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    whole = sketcher.sketch(photo, view="whole", size=700).image
    monkeypatch.setattr("silverpoint.synthesis.model.TILE_PIXELS", 100_000)
    np.testing.assert_array_equal(sketcher.sketch(photo, view="whole", size=700).image, whole)
