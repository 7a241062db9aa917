"""`silverpoint sketch` and `silverpoint photo`: every kind of input, good and bad, one and many."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import re
import signal
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from conftest import ROOT
from silverpoint.cli.main import main
from silverpoint.faces.detect import Face, detect

Run = Callable[..., tuple[int, str, str]]
SCRIPT = "import sys; from silverpoint.cli.main import main; sys.exit(main())"


SEEN: dict[bytes, list[Face]] = {}


@pytest.fixture(autouse=True)
def detect_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most of these tests draw the same portrait: its face is looked for once."""

    def remembered(image: np.ndarray, **options: Any) -> list[Face]:
        key = hashlib.sha256(image.tobytes() + repr(options).encode()).digest()
        if key not in SEEN:
            SEEN[key] = detect(image, **options)
        return SEEN[key]

    monkeypatch.setattr("silverpoint.synthesis.sketcher.detect", remembered)


@pytest.fixture
def run(
    tiny_model: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Run:
    """Run `silverpoint sketch ARGUMENTS` with the tiny model in an empty folder: (status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str | Path, command: str = "sketch") -> tuple[int, str, str]:
        status = main([command, "--model", str(tiny_model), *map(str, arguments)])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return status, out, err

    return run


@pytest.fixture
def me(portrait: Path, tmp_path: Path) -> Path:
    """The portrait as me.jpg in the test's folder, small."""
    path = tmp_path / "me.jpg"
    Image.open(portrait).resize((240, 240)).save(path)
    return path


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def two_people(me: Path, path: Path) -> Path:
    """The portrait and, to its left, the same smaller."""
    face = Image.open(me)
    both = Image.new("RGB", (400, 240), "white")
    both.paste(face.resize((160, 160)), (0, 80))
    both.paste(face, (160, 0))
    both.save(path)
    return path


def bomb(path: Path, side: int = 60_000) -> Path:
    """A PNG of a few hundred bytes that claims side x side pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(10_000))) + chunk(b"IEND", b"")
    )
    return path


# ---- one photo ----


def test_one_photo_is_drawn_beside_it(run: Run, me: Path) -> None:
    assert run("me.jpg") == (0, "me-sketch.png\n", "")
    width, height = Image.open("me-sketch.png").size
    assert width == height == pytest.approx(240 * 50 / 36, abs=10)  # its eyes, 36 px apart, come to 50
    assert files(me.parent) == ["me-sketch.png", "me.jpg"]


def test_a_drawing_is_not_drawn_twice_but_for_overwrite(run: Run, me: Path) -> None:
    run("me.jpg", "--style", "cufs", "-o", "drawn.png")
    first = Path("drawn.png").read_bytes()
    status, out, err = run("me.jpg", "--style", "fs2k1", "-o", "drawn.png")
    assert (status, out) == (0, "drawn.png\n")
    assert err == "silverpoint: drawn.png: is there already; --overwrite draws it again\n"
    assert Path("drawn.png").read_bytes() == first
    run("me.jpg", "--style", "fs2k1", "-o", "drawn.png", "--overwrite")
    assert Path("drawn.png").read_bytes() != first


def test_the_readmes_commands_in_their_order_give_a_drawing_each(run: Run, me: Path) -> None:
    Path("album").mkdir()
    Image.open(me).save("album/a.jpg")
    block = re.search(r"pip install \.\n((?:    silverpoint sketch .+\n)+)", (ROOT / "README.md").read_text())
    assert block is not None
    drawn = set()
    for line in block[1].splitlines():
        command, _, comment = line.partition("#")
        status, out, err = run(*command.split()[2:])
        assert (status, err.replace("silverpoint: 1 drawn\n", "")) == (0, "")
        assert Path(out.strip()).parts[0] in comment.replace("/", " ").replace(":", " ").split()
        drawn.add(Path(out.strip()).read_bytes())
    assert len(drawn) == len(block[1].splitlines()) == 4


def test_a_style_or_view_that_is_asked_for_is_in_the_name(run: Run, me: Path, album: Path) -> None:
    named = [
        (["--style", "fs2k1"], "-fs2k1"),
        (["--face"], "-face"),
        (["--face", "none"], "-whole"),
        (["--face", "--style", "fs2k1"], "-fs2k1-face"),
    ]
    for arguments, tag in named:
        assert run(*arguments, "me.jpg")[:2] == (0, f"me-sketch{tag}.png\n")
        assert run(*arguments, "album/trip")[:2] == (0, f"album/trip-sketches{tag}/d.png\n")
        assert run(*arguments, "me.jpg")[2].endswith("is there already; --overwrite draws it again\n")
    _, _, err = run("album", "-r", "-o", "all")  # what was drawn in the album is no photo
    assert err == "silverpoint: 4 drawn\n"
    assert run(*sorted(me.parent.glob("me*")), "-o", "one")[1] == "one/me.png\n"


@pytest.mark.parametrize(
    ("output", "written"),
    [
        ("drawn.png", "drawn.png"),
        ("new/drawn.jpg", "new/drawn.jpg"),
        ("folder", "folder/me.png"),
        ("new/folder/", "new/folder/me.png"),
        (".", "me.png"),
    ],
)
def test_output_is_a_file_or_a_folder(run: Run, me: Path, output: str, written: str) -> None:
    status, out, _ = run("me.jpg", "-o", output)
    assert status == 0
    assert os.path.normpath(out.strip()) == written
    assert Path(written).is_file()


def test_views(run: Run, me: Path) -> None:
    assert run("--face", "me.jpg", "-o", "face.png")[0] == 0
    assert Image.open("face.png").size == (200, 250)
    assert run("--face", "none", "me.jpg", "-o", "whole.png")[0] == 0
    assert Image.open("whole.png").size == (240, 240)
    assert run("me.jpg", "--face=none", "--size", "100", "-o", "small.png")[0] == 0
    assert Image.open("small.png").size == (100, 100)
    assert run("me.jpg", "--portrait", "--size", "500", "-o", "large.png")[0] == 0
    assert Image.open("large.png").size == (500, 500)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--style", "oil"],
        ["--size", "5"],
        ["--face", "--all-faces"],
        ["-o", "me.jpg"],
        ["-o", "./me.jpg"],
        ["-o", "drawn.xyz"],
        ["-o", "-", "--json"],
    ],
)
def test_wrong_usage_is_2_and_writes_nothing(run: Run, me: Path, arguments: list[str]) -> None:
    before = me.read_bytes()
    status, out, err = run("me.jpg", *arguments)
    assert (status, out) == (2, "")
    assert err
    assert files(me.parent) == ["me.jpg"]
    assert me.read_bytes() == before


def test_all_faces_are_numbered_from_the_largest(run: Run, me: Path) -> None:
    two_people(me, me.with_name("us.png"))
    assert run("us.png", "--all-faces")[:2] == (0, "us-sketch-face1.png\nus-sketch-face2.png\n")
    assert Image.open("us-sketch-face1.png").size == (200, 250)
    _, out, err = run("us.png", "--all-faces", "--json")
    assert "there already" in err
    assert json.loads(out)["output"] == ["us-sketch-face1.png", "us-sketch-face2.png"]
    assert run("us.png", "--all-faces", "-o", "faces")[0] == 0
    assert files(Path("faces")) == ["us-face1.png", "us-face2.png"]
    me.replace("us.png")
    assert run("us.png", "--all-faces", "-o", "faces", "--overwrite")[:2] == (0, "faces/us-face1.png\n")
    assert files(Path("faces")) == ["us-face1.png"]  # not the second of two people who are there no more


@pytest.mark.parametrize("other", ["us-2", "us-face2"])
def test_faces_and_other_photos_never_share_a_drawing(run: Run, me: Path, other: str) -> None:
    Path("album").mkdir()
    two_people(me, Path("album/us.png"))
    Image.open(me).save(f"album/{other}.jpg")
    assert run("album")[2] == "silverpoint: 2 drawn\n"
    whole = {path: path.read_bytes() for path in Path("album-sketches").iterdir()}
    assert run("album", "--all-faces")[2] == "silverpoint: 2 drawn\n"
    assert len(files(Path("album-sketches"))) == 2 + 3
    Image.open(me).save("album/us.png")  # one of the two is there no more
    assert run("album", "--all-faces", "--overwrite")[0] == 0
    assert len(files(Path("album-sketches"))) == 2 + 2
    assert {path: path.read_bytes() for path in whole} == whole


def test_of_two_faces_the_largest_sets_the_scale(run: Run, me: Path) -> None:
    two_people(me, me.with_name("us.png"))
    status, out, _ = run("us.png", "--json")
    record = json.loads(out)
    assert status == 0
    assert [face["box"][0] > 0.4 for face in record["faces"]] == [True, False]
    width, height = record["size"]
    assert width / height == pytest.approx(400 / 240, rel=0.01)


def test_json(run: Run, me: Path) -> None:
    status, out, _ = run("me.jpg", "none.jpg", "--json", "--style", "fs2k1")
    drawn, failed = map(json.loads, out.splitlines())
    assert status == 1
    assert drawn["input"] == "me.jpg"
    assert drawn["output"] == "me-sketch-fs2k1.png"
    assert len(drawn["faces"]) == 1
    eyes = np.array(drawn["faces"][0]["points"])[:2]
    np.testing.assert_allclose(eyes, [[0.423, 0.467], [0.572, 0.462]], atol=0.01)
    assert drawn["size"] == list(Image.open(drawn["output"]).size)
    assert drawn["style"] == "fs2k1"
    assert drawn["error"] is None
    assert drawn["seconds"] > 0
    assert failed["output"] is None
    assert failed["error"] == "none.jpg: no such file"
    assert json.loads(run("me.jpg", "--json", "--style", "fs2k1")[1])["skipped"] is True


# ---- photos of every kind ----


def save_kind(kind: str, me: Path) -> Path:
    image = Image.open(me)
    path = me.with_name(f"kind-{kind}.png")
    if kind == "cmyk":
        image.convert("CMYK").save(path := path.with_suffix(".jpg"))
    elif kind == "16-bit":
        Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257).save(path)
    elif kind == "gif":
        frames = [Image.new("P", image.size), Image.new("P", image.size, 3)]
        image.save(path := path.with_suffix(".gif"), save_all=True, append_images=frames)
    elif kind == "rotated":
        exif = Image.Exif()
        exif[0x0112] = 6
        image.rotate(90).save(path := path.with_suffix(".jpg"), exif=exif)
    elif kind == "misnamed":
        image.save(path := path.with_suffix(".tif"), "JPEG")
    else:
        image.convert(kind).save(path)
    return path


@pytest.mark.parametrize("kind", ["cmyk", "16-bit", "gif", "rotated", "misnamed", "RGBA", "L", "LA", "P"])
def test_photos_of_every_kind_are_drawn(run: Run, me: Path, kind: str) -> None:
    status, out, err = run(save_kind(kind, me), "--json")
    assert (status, err) == (0, "")
    record = json.loads(out)
    assert len(record["faces"]) == 1
    assert Image.open(record["output"]).size[0] >= 240


def test_a_100_megapixel_photo_is_drawn(run: Run, tmp_path: Path) -> None:
    Image.new("L", (10_000, 10_000), 200).save("huge.jpg")
    assert run("huge.jpg", "--face", "none")[0] == 0
    width, height = Image.open("huge-sketch-whole.png").size
    assert 1_000_000 < width * height <= 1_200_000


def test_a_pixel_is_a_picture_without_a_face(run: Run, tmp_path: Path) -> None:
    Image.new("RGB", (1, 1)).save("dot.png")
    status, _, err = run("dot.png")
    assert status == 1
    assert err == "silverpoint: dot.png: " + err.partition("dot.png: ")[2]
    assert "--face none" in err
    assert run("dot.png", "--face", "none")[0] == 0
    assert Image.open("dot-sketch-whole.png").size == (1, 1)


def make_bad(kind: str, me: Path) -> Path:
    path = me.with_name(f"{kind}.jpg")
    if kind == "text":
        path.write_text("Dear diary")
    elif kind == "empty":
        path.touch()
    elif kind == "truncated":
        path.write_bytes(me.read_bytes()[: me.stat().st_size // 2])
    elif kind == "wall":
        Image.new("RGB", (300, 200), "white").save(path)
    elif kind == "bomb":
        bomb(path)
    elif kind == "pixel":
        Image.new("RGB", (1, 1)).save(path)
    return path  # kind "missing" makes none


BAD = {
    "text": "is not an image",
    "empty": "is empty",
    "truncated": "damaged or incomplete",
    "wall": "no face found",
    "bomb": "megapixels",
    "pixel": "no face found",
    "missing": "no such file",
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_photo_is_one_line(run: Run, me: Path, kind: str) -> None:
    path = make_bad(kind, me)
    before = files(me.parent)
    status, out, err = run(path)
    assert (status, out) == (1, "")
    assert len(err.splitlines()) == 1
    assert err.startswith(f"silverpoint: {path}: ")
    assert BAD[kind] in err
    assert files(me.parent) == before


def test_bad_photos_do_not_stop_a_batch(run: Run, me: Path, tmp_path: Path) -> None:
    bad = [make_bad(kind, me) for kind in BAD]
    good = [save_kind(kind, me) for kind in ("cmyk", "16-bit", "gif")]
    status, out, err = run(bad[0], me, *bad[1:4], *good, *bad[4:], "-o", "out")
    assert status == 1
    assert files(Path("out")) == ["kind-16-bit.png", "kind-cmyk.png", "kind-gif.png", "me.png"]
    assert len(out.splitlines()) == 4
    lines = err.splitlines()
    assert lines[-1] == "silverpoint: 4 drawn, 7 failed"
    for path, line in zip(bad, lines, strict=False):
        assert line.startswith(f"silverpoint: {path}: ")


# ---- places that cannot be written ----


def failing_save(code: int) -> Callable[..., None]:
    def save(self: Any, stream: Any, *args: Any, **kwargs: Any) -> None:
        stream.write(b"half a file")
        raise OSError(code, os.strerror(code))

    return save


def test_a_full_disk_is_one_line_and_leaves_nothing(
    run: Run, me: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image.Image, "save", failing_save(errno.ENOSPC))
    status, _, err = run("me.jpg")
    assert status == 1
    assert err.count("\n") == 1
    assert "me-sketch.png" in err
    assert "the disk is full" in err
    assert files(me.parent) == ["me.jpg"]


def test_a_read_only_folder_is_one_line(run: Run, me: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "x")

    monkeypatch.setattr("silverpoint.synthesis.batch.os.makedirs", refuse)
    status, _, err = run("me.jpg", "-o", "new/me.png")
    assert status == 1
    assert (
        err
        == "silverpoint: me.jpg: new: cannot be created (Permission denied); choose another folder with -o\n"
    )
    monkeypatch.setattr(Image.Image, "save", failing_save(errno.EROFS))
    monkeypatch.setattr("silverpoint.synthesis.batch.os.makedirs", lambda *args, **kwargs: None)
    status, _, err = run("me.jpg")
    assert status == 1
    assert err.count("\n") == 1
    assert "is read-only" in err
    assert files(me.parent) == ["me.jpg"]


def test_an_unexpected_error_is_one_line(run: Run, me: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any, **kwargs: Any) -> None:
        raise ZeroDivisionError("1/0")

    monkeypatch.setattr("silverpoint.synthesis.sketcher.detect", broken)
    status, _, err = run("me.jpg")
    assert status == 1
    assert err == (
        "silverpoint: me.jpg: unexpected ZeroDivisionError: 1/0; --debug shows where, please report it\n"
    )


def test_a_wrong_model_is_said_once(run: Run, me: Path, tmp_path: Path) -> None:
    Path("broken.onnx").write_bytes(b"no model")
    for model in ("broken.onnx", "none.onnx", "chalk"):
        status, out, err = run("me.jpg", "me.jpg", "other.jpg", "--model", model)
        assert (status, out) == (1, "")
        assert err.count("\n") == 1
        assert model in err


# ---- many photos ----


@pytest.fixture
def album(me: Path) -> Path:
    """A folder of three photos and what else lies in folders."""
    album = me.parent / "album"
    (album / "trip").mkdir(parents=True)
    for name in ("a.jpg", "b.JPG", "c.png", "trip/d.jpg"):
        Image.open(me).save(album / name)
    (album / "notes.txt").write_text("not a photo")
    (album / "._a.jpg").write_bytes(b"hidden")
    return album


def test_a_folder_gives_a_folder(run: Run, album: Path) -> None:
    status, out, err = run("album")
    assert status == 0
    assert out.split() == [f"album-sketches/{name}.png" for name in "abc"]
    assert err == "silverpoint: 3 drawn\n"
    assert files(album.with_name("album-sketches")) == ["a.png", "b.png", "c.png"]


def test_a_second_run_draws_what_is_missing(run: Run, album: Path) -> None:
    run("album/", "-o", "out")
    Path("out/b.png").unlink()
    kept = Path("out/a.png").stat()
    status, _, err = run("album", "-o", "out")
    assert (status, err) == (0, "silverpoint: 1 drawn, 2 already there\n")
    assert Path("out/a.png").stat().st_mtime_ns == kept.st_mtime_ns
    assert run("album", "-o", "out", "--overwrite")[2] == "silverpoint: 3 drawn\n"


def test_a_second_run_needs_no_model(run: Run, album: Path) -> None:
    run("album")
    assert run("album", "--model", "none.onnx")[2] == "silverpoint: 3 already there\n"


def test_recursive_mirrors_the_folders(run: Run, album: Path) -> None:
    assert run("album", "-r", "-o", "album/out")[0] == 0
    assert files(album / "out") == ["a.png", "b.png", "c.png", "trip/d.png"]
    assert run("album", "-r", "-o", "album/out")[2] == "silverpoint: 4 already there\n"


def test_folders_of_drawings_are_not_drawn(run: Run, album: Path) -> None:
    assert run("album/trip")[0] == 0
    album.with_name("other-sketches").mkdir()
    (album / "trip-sketches/d.png").rename(album / "trip-sketches/e.png")
    album.with_name("other-sketches").rename(album / "far-sketches")  # of nothing that is here
    Image.open(album / "a.jpg").save(album / "far-sketches/f.png")
    assert run("album", "-r")[0] == 0
    drawn = ["a.png", "b.png", "c.png", "far-sketches/f.png", "trip/d.png"]
    assert files(album.with_name("album-sketches")) == drawn
    assert run("album/trip-sketches", "-o", "again")[0] == 0  # asked for by name it is
    assert files(Path("again")) == ["e.png"]


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_a_link_to_itself_does_not_stop_a_folder(run: Run, album: Path) -> None:
    (album / "aa.jpg").symlink_to("aa.jpg")
    status, out, err = run("album")
    assert status == 1
    assert out.split() == [f"album-sketches/{name}.png" for name in "abc"]
    assert err.startswith("silverpoint: album/aa.jpg: cannot be read (")


def test_here_is_a_folder_too(run: Run, album: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(album)
    assert run(".")[0] == 0
    assert files(album.with_name("album-sketches")) == ["a.png", "b.png", "c.png"]


def test_globs_and_repeats(run: Run, album: Path) -> None:
    status, out, _ = run("album/*.[jJ][pP][gG]", "album/a.jpg", "./album/b.JPG", "-o", "out")
    assert (status, out.split()) == (0, ["out/a.png", "out/b.png"])


def test_names_that_clash_are_told_apart(run: Run, album: Path, me: Path) -> None:
    Image.open(me).save(album / "a.png")
    assert run("album")[0] == 0
    assert files(album.with_name("album-sketches")) == ["a.jpg.png", "a.png.png", "b.png", "c.png"]
    assert run("album/a.jpg", "album/a.png")[0] == 0
    assert {"a.jpg-sketch.png", "a.png-sketch.png"} < set(files(album))
    assert run("me.jpg", "album/a.jpg", "album/trip/../a.png", "-o", "out")[0] == 0
    other = me.parent / "other"
    other.mkdir()
    Image.open(me).save(other / "a.jpg")
    assert run("album/a.jpg", "other/a.jpg", "-o", "both")[0] == 0
    assert files(Path("both")) == ["album-a.jpg.png", "other-a.jpg.png"]


def test_drawings_are_not_drawn_again(run: Run, album: Path) -> None:
    run("album/a.jpg", "album/c.png")
    status, _, err = run(*sorted(album.glob("[a-z]*.*[gG]")))
    assert status == 0
    assert err == "silverpoint: 1 drawn, 2 already there\n"
    assert not [name for name in files(album) if "sketch-sketch" in name]


@pytest.mark.parametrize(
    "arguments",
    [
        ["album", "-o", "album"],
        ["album", "-o", "out.png"],
        ["album/a.jpg", "album/c.png", "-o", "album/../album"],
        ["album/a.jpg", "--all-faces", "-o", "album"],
        ["album", "-", "-o", "out"],
    ],
)
def test_photos_are_never_drawn_over(run: Run, album: Path, arguments: list[str]) -> None:
    before = {name: (album / name).read_bytes() for name in files(album)}
    status, out, err = run(*arguments, "--overwrite")
    assert (status, out) == (2, "")
    assert err.count("\n") == 1
    assert {name: (album / name).read_bytes() for name in files(album)} == before


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="file names are text there")
def test_names_that_are_not_text(tiny_model: Path, me: Path) -> None:
    name = os.fsdecode(b"m\xe9.jpg")
    os.rename(me, me.with_name(name))
    done = pipe(tiny_model, str(me.with_name(name)))
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.endswith(b"/m\xe9-sketch.png\n")
    done = pipe(tiny_model, str(me.with_name(name)), "--overwrite", "--json")
    assert json.loads(done.stdout)["input"] == str(me.with_name(name))


def test_names_with_spaces_are_kept(run: Run, me: Path) -> None:
    me.rename("a  b.jpg")
    assert run("a  b.jpg")[:2] == (0, "a  b-sketch.png\n")
    Path("c  d.jpg").touch()
    assert run("c  d.jpg")[2].startswith("silverpoint: c  d.jpg: is empty")


def test_a_folder_that_cannot_be_listed(run: Run, album: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scandir = os.scandir

    def refuse(folder: str) -> Any:
        if os.fspath(folder).endswith("trip"):
            raise PermissionError(errno.EACCES, "Permission denied", folder)
        return scandir(folder)

    monkeypatch.setattr("silverpoint.synthesis.jobs.os.scandir", refuse)
    status, _, err = run("album", "-r")
    assert status == 1
    assert "silverpoint: album/trip: cannot be listed (Permission denied)\n" in err
    assert files(album.with_name("album-sketches")) == ["a.png", "b.png", "c.png"]


def test_folders_and_globs_without_photos(run: Run, tmp_path: Path) -> None:
    Path("bare").mkdir()
    status, _, err = run("bare", "*.jpg")
    assert status == 1
    assert "bare: no photos in this folder" in err
    assert "*.jpg: no file matches" in err


def test_a_bar_on_a_terminal(run: Run, album: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    (album / "bad.jpg").write_text("no photo")
    status, _, err = run("album")
    assert status == 1
    assert "4/4" in err
    assert "bad.jpg: is not an image" in err


# ---- standard input and output ----


def pipe(tiny_model: Path, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-c", SCRIPT, "sketch", "--model", str(tiny_model), *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, check=False)


def test_standard_input_to_standard_output(tiny_model: Path, me: Path) -> None:
    done = pipe(tiny_model, "-", "--face", stdin=me.read_bytes())
    assert (done.returncode, done.stderr) == (0, b"")
    assert Image.open(io.BytesIO(done.stdout)).size == (200, 250)


def test_standard_input_to_a_file(tiny_model: Path, me: Path) -> None:
    target = me.with_name("drawn.png")
    done = pipe(tiny_model, "-", "-o", str(target), stdin=me.read_bytes())
    assert (done.returncode, done.stdout.decode().strip()) == (0, str(target))
    assert target.is_file()


def test_standard_input_draws_over_nothing_and_needs_a_file(
    run: Run, me: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(me.read_bytes())))
    Path("drawn.png").write_bytes(b"mine")
    status, out, err = run("-", "-o", "drawn.png")
    assert (status, out) == (0, "drawn.png\n")
    assert "drawn.png: is there already; --overwrite draws it again" in err
    assert Path("drawn.png").read_bytes() == b"mine"
    for output in ("new/", "new", "new.xyz"):
        status, out, err = run("-", "-o", output)
        assert (status, out) == (2, "")
        assert err.startswith(f"silverpoint: -o {output}: ")
    assert files(me.parent) == ["drawn.png", "me.jpg"]
    assert [path for path in me.parent.iterdir() if path.is_dir()] == []
    assert run("-", "-o", "drawn.png", "--overwrite")[0] == 0
    assert Image.open("drawn.png").size[0] > 240


def test_bad_standard_input(tiny_model: Path) -> None:
    done = pipe(tiny_model, "-", stdin=b"no photo")
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.startswith(b"silverpoint: standard input: ")
    assert done.stderr.count(b"\n") == 1


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT to send")
def test_interrupted(tiny_model: Path, me: Path) -> None:
    """Ctrl-C ends a batch with 130 and whole files only."""
    album = me.parent / "many"
    album.mkdir()
    for n in range(200):
        os.link(me, album / f"{n:03}.jpg")
    # a test run in the background ignores the signal, and so would its children
    listening = f"import signal; signal.signal(signal.SIGINT, signal.default_int_handler); {SCRIPT}"
    command = [sys.executable, "-c", listening, "sketch", "--model", str(tiny_model), str(album)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()  # one is drawn
        time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
    assert process.returncode == 130
    assert said == b"silverpoint: interrupted\n"
    drawn = list((me.parent / "many-sketches").iterdir())
    assert 0 < len(drawn) < 200
    for path in drawn:
        Image.open(path).load()


# ---- the other way ----


def test_photo_needs_a_model_of_its_direction(
    run: Run, me: Path, tmp_path: Path, write_model: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["photo", "me.jpg"]) == 2
    assert "--model FILE.onnx" in capsys.readouterr().err
    status, _, err = run("me.jpg", command="photo")
    assert status == 2
    assert "`silverpoint sketch`" in err
    other = write_model(tmp_path / "other.onnx", channels=3, direction="sketch2photo")
    status, out, _ = run("me.jpg", "--model", other, command="photo")
    assert (status, out) == (0, "me-photo.png\n")
    assert Image.open("me-photo.png").mode == "RGB"
    status, _, err = run("me.jpg", "--model", other)
    assert status == 2
    assert "`silverpoint photo`" in err
