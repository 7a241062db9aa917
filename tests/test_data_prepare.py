"""From a source to a dataset folder: whole or not at all, done once, aligned, packed."""

import csv
import json
import os
import signal
import subprocess
import sys
import tarfile
import textwrap
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from drawn import draw_pair, write_pair_folders
from silverpoint.cli.main import main
from silverpoint.data import check as checking
from silverpoint.data import making, simulate
from silverpoint.data import prepare as preparing
from silverpoint.data.alignment import FRAMES, MOUTH, align_to, frame_transform
from silverpoint.data.pairs import list_sketches, list_split, read_rows, read_split
from silverpoint.data.prepare import prepare
from silverpoint.data.preview import preview
from silverpoint.data.priors import parsed, version
from silverpoint.data.protocols import Source
from silverpoint.errors import AssetError, DataError, UsageError
from silverpoint.faces.align import CUFS, apply
from silverpoint.image import read_image


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_pair_folders(tmp_path_factory.mktemp("source") / "mine", 10)


@pytest.fixture(scope="module")
def dataset(source, tmp_path_factory):
    out = tmp_path_factory.mktemp("data") / "dataset"
    prepare("pairs", source, out, val=0.2)
    return out


@pytest.fixture
def counted(monkeypatch):
    """Priors that cost nothing, and a list of the pictures they were computed for."""
    seen = []

    def predictor(kind):
        def predict(image):
            seen.append((kind, image.sum()))
            return np.full(image.shape[:2], 200 if kind == "saliency" else 1, np.uint8)

        return predict

    monkeypatch.setattr(preparing, "fetch_network", lambda kind: None)
    monkeypatch.setattr(making, "predictor", predictor)
    monkeypatch.setattr(
        making, "sketch_prior", lambda kind, sketch, of_photo: (predictor(kind)(sketch), True)
    )
    return seen


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_prepare_writes_a_folder_a_person_can_read(dataset):
    rows = list(csv.DictReader((dataset / "pairs.csv").open()))
    assert [r["split"] for r in rows].count("val") == 2
    assert json.loads((dataset / "dataset.json").read_text())["pairs"] == 10
    photo, sketch = draw_pair(3)
    row = next(r for r in rows if r["id"] == "p003")
    assert np.array_equal(np.asarray(Image.open(dataset / row["photo"])), photo)
    assert np.array_equal(np.asarray(Image.open(dataset / row["sketch"])), sketch)


def test_the_held_out_part_depends_on_the_seed_alone(tmp_path):
    source = write_pair_folders(tmp_path / "mine", 8)
    held = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        prepare("pairs", source, tmp_path / name, val=0.25, seed=seed)
        held.append([e.id for e in read_split(tmp_path / name, "val")])
    assert held[0] == held[1] != held[2]


def test_one_id_in_two_subsets_is_held_out_of_one_alone(tmp_path):
    root = tmp_path / "mine"
    lines = ["photo,sketch,id,subset"]
    write_pair_folders(root, 2)
    lines += [f"photos/p{i:03d}.png,sketches/p{i:03d}.png,{n},s{i}" for i in range(2) for n in range(10)]
    (root / "mine.csv").write_text("\n".join(lines))
    prepare("pairs", root / "mine.csv", tmp_path / "out", val=0.3)
    splits = [(r["subset"], r["split"]) for r in read_rows(tmp_path / "out")]
    assert [splits.count((s, "val")) for s in ("s0", "s1")] == [3, 3]


def test_prepare_never_overwrites_a_dataset(dataset, tmp_path):
    with pytest.raises(DataError, match="already exists"):
        prepare("pairs", write_pair_folders(tmp_path / "mine", 2), dataset)


@pytest.mark.parametrize(
    ("option", "says"),
    [({"priors": ["depth"]}, "saliency, layout"), ({"frame": "oval"}, "cufs"), ({"simulate": "x"}, "sobel")],
)
def test_a_name_that_is_none_is_refused_and_leaves_nothing(source, tmp_path, option, says):
    with pytest.raises(UsageError, match=says):
        prepare("pairs", source, tmp_path / "dataset", **option)
    assert not list(tmp_path.iterdir())


def test_a_prior_whose_network_cannot_be_fetched_stops_before_anything_is_made(source, tmp_path, monkeypatch):
    monkeypatch.setenv("SILVERPOINT_OFFLINE", "1")
    monkeypatch.setenv("SILVERPOINT_CACHE", str(tmp_path / "cache"))
    with pytest.raises(AssetError, match=r"^u2netp is not in .*assets fetch u2netp"):
        prepare("pairs", source, tmp_path / "dataset", priors=["saliency"])
    assert not list(tmp_path.iterdir())


def test_a_network_that_is_lost_on_the_way_is_no_fault_of_the_pairs(source, tmp_path, counted, monkeypatch):
    def lost(kind):
        raise AssetError("u2netp is gone")

    monkeypatch.setattr(making, "predictor", lost)
    with pytest.raises(AssetError, match=r"^u2netp is gone$"):
        prepare("pairs", source, tmp_path / "dataset", priors=["saliency"], skip_bad=True)


# ---- damage


def spoil(folder: Path) -> Path:
    (folder / "photos" / "p001.png").write_bytes(b"no image")
    (folder / "photos" / "p002.png").write_bytes((folder / "photos" / "p002.png").read_bytes()[:900])
    Image.new("L", (150, 250)).save(folder / "sketches" / "p003.png")
    return folder


def test_everything_damaged_is_named_at_once_and_no_dataset_appears(tmp_path):
    source = spoil(write_pair_folders(tmp_path / "mine", 5))
    with pytest.raises(DataError, match=r"p001\.png.*p002\.png.*p003\.png: is 150x250, its photo 200x250"):
        prepare("pairs", source, tmp_path / "dataset")
    assert not (tmp_path / "dataset").exists()


def test_bad_pairs_are_left_out_when_asked_and_named(tmp_path):
    source = spoil(write_pair_folders(tmp_path / "mine", 5))
    report = prepare("pairs", source, tmp_path / "dataset", skip_bad=True, val=0)
    assert (report.pairs, report.left_out) == (2, 3)
    assert [p.split("/")[-1].split(":")[0] for p in report.problems] == ["p001.png", "p002.png", "p003.png"]
    assert [r["id"] for r in read_rows(tmp_path / "dataset")] == ["p000", "p004"]


def test_the_released_crops_must_have_the_released_size(tmp_path):
    root = tmp_path / "AR"
    for kind, name in ((0, "Photos"), (1, "Sketches")):
        (root / f"Training {name}").mkdir(parents=True)
        Image.fromarray(draw_pair(0, (178, 218))[kind]).save(root / f"Training {name}" / "3.png")
    with pytest.raises(DataError, match=r"178x218, this database has 200x250.*--align"):
        prepare("cufs", root, tmp_path / "dataset")


def test_one_file_under_two_names_is_named_across_splits_first(tmp_path):
    source = write_pair_folders(tmp_path / "mine", 4)
    (source / "photos" / "p003.png").write_bytes((source / "photos" / "p000.png").read_bytes())
    lines = ["photo,sketch,id,split"]
    lines += [
        f"photos/p{i:03d}.png,sketches/p{i:03d}.png,p{i:03d},{'test' if i == 3 else 'train'}"
        for i in range(4)
    ]
    (source / "mine.csv").write_text("\n".join(lines))
    report = prepare("pairs", source / "mine.csv", tmp_path / "dataset", val=0)
    assert len(report.problems) == 1
    assert (
        "the same file as the photo of mine p000; one is for test, the other for train" in report.problems[0]
    )


# ---- done once


def test_priors_are_made_of_photo_and_sketch_once_and_added_to_a_finished_dataset(source, tmp_path, counted):
    out = tmp_path / "dataset"
    prepare("pairs", source, out, priors=["saliency"])
    assert len(counted) == 20
    example = read_split(out, "train")[0]
    assert example.saliency.max() == example.sketch_saliency.max() == 200
    before = tree(out)
    prepare("pairs", source, out, priors=["saliency"])
    assert len(counted) == 20
    assert tree(out) == before
    prepare("pairs", source, out, priors=["layout"])  # added; saliency stays
    assert [kind for kind, _ in counted[20:]] == ["layout"] * 20
    example = read_split(out, "train")[0]
    assert example.saliency is not None
    assert example.sketch_layout.max() == 1


def test_a_new_version_makes_its_prior_anew_and_no_other(source, tmp_path, counted, monkeypatch):
    out = tmp_path / "dataset"
    prepare("pairs", source, out, priors=["saliency", "layout"])
    counted.clear()
    for module in (making, preparing):
        monkeypatch.setattr(module, "version", lambda kind: version(kind) + ("+" if kind == "layout" else ""))
    prepare("pairs", source, out, priors=["saliency", "layout"])
    assert [kind for kind, _ in counted] == ["layout"] * 20
    assert json.loads((out / "dataset.json").read_text())["priors"]["layout"].endswith("+")


def test_an_interrupted_preparation_goes_on_where_it_stopped(source, tmp_path, counted, monkeypatch):
    out = tmp_path / "dataset"
    make = making.make

    def stop_at_the_seventh(pair, plan, known):
        if pair.id == "p006":
            raise KeyboardInterrupt
        return make(pair, plan, known)

    monkeypatch.setattr(making, "make", stop_at_the_seventh)
    with pytest.raises(KeyboardInterrupt):
        prepare("pairs", source, out, priors=["saliency"])
    assert not out.exists()
    assert len(counted) == 12
    monkeypatch.setattr(making, "make", make)
    prepare("pairs", source, out, priors=["saliency"])
    assert len(counted) == 20
    assert len(read_rows(out)) == 10


def test_only_what_changed_is_made_anew(tmp_path, counted, monkeypatch):
    source, out = write_pair_folders(tmp_path / "mine", 4), tmp_path / "dataset"
    (source / "photos" / "p003.png").write_bytes(b"")
    with pytest.raises(DataError):
        prepare("pairs", source, out, priors=["saliency"])
    assert len(counted) == 6
    Image.fromarray(draw_pair(9)[0]).save(source / "photos" / "p003.png")
    Image.fromarray(draw_pair(8)[0]).save(source / "photos" / "p000.png")
    prepare("pairs", source, out, priors=["saliency"], val=0)
    assert len(counted) == 10
    assert np.array_equal(read_split(out, "train")[0].photo, draw_pair(8)[0])


def test_while_priors_of_changed_pictures_are_made_a_finished_dataset_reads_as_one_without(
    tmp_path, counted, monkeypatch
):
    source, out = write_pair_folders(tmp_path / "mine", 3), tmp_path / "dataset"
    prepare("pairs", source, out, priors=["saliency"])
    Image.fromarray(draw_pair(8)[0]).save(source / "photos" / "p000.png")
    with monkeypatch.context() as patch:
        patch.setattr(making, "predictor", lambda kind: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            prepare("pairs", source, out, priors=["saliency"])
    assert not any(row["saliency"] or row["sketch_saliency"] for row in read_rows(out))
    counted.clear()
    prepare("pairs", source, out)
    assert len(counted) == 2  # the others' are as they were
    assert all(row["saliency"] and row["sketch_saliency"] for row in read_rows(out))


@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL")
def test_workers_end_with_a_killed_preparation():
    code = textwrap.dedent("""
        import os, signal
        from concurrent.futures import ProcessPoolExecutor
        from multiprocessing import get_context
        from silverpoint.data.making import _begin
        if __name__ == "__main__":
            pool = ProcessPoolExecutor(1, get_context("spawn"), _begin)
            pool.submit(abs, -1).result()
            os.kill(os.getpid(), signal.SIGKILL)
    """)
    # The worker has inherited the pipe: reading from it ends when the worker does.
    killed = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60)
    assert killed.returncode == -signal.SIGKILL


@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL")
def test_a_killed_preparation_leaves_nothing_that_reads_as_whole(source, tmp_path):
    code = f"""
import os, signal
from pathlib import Path
from silverpoint.data import check as checking
from silverpoint.data import making, simulate
write, left = making.write_image, [7]
def dying(*args):
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    write(*args)
making.write_image = dying
from silverpoint.data.prepare import prepare
prepare("pairs", Path({str(source)!r}), Path({str(tmp_path / "dataset")!r}))
"""
    killed = subprocess.run([sys.executable, "-c", code], capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "dataset").exists()
    with pytest.raises(DataError):
        read_rows(tmp_path / "dataset.partial")
    prepare("pairs", source, tmp_path / "dataset")
    prepare("pairs", source, tmp_path / "undisturbed")
    assert tree(tmp_path / "dataset") == tree(tmp_path / "undisturbed")


def test_several_processes_make_the_same_dataset(source, dataset, tmp_path):
    prepare("pairs", source, tmp_path / "dataset", val=0.2, workers=2)
    assert tree(tmp_path / "dataset") == tree(dataset)


# ---- alignment

points = st.tuples(
    st.floats(60, 140), st.floats(60, 190), st.floats(20, 70), st.floats(-0.6, 0.6)
)  # middle of the eyes, their distance, tilt


def face_at(middle_x, middle_y, distance, tilt, mouth=MOUTH):
    across = np.array([np.cos(tilt), np.sin(tilt)]) * distance
    down = np.array([-across[1], across[0]]) * mouth
    middle = np.array([middle_x, middle_y])
    return tuple(map(tuple, (middle - across / 2, middle + across / 2, middle + down)))


@given(points, st.sampled_from(sorted(FRAMES)))
@settings(max_examples=40, deadline=None)
def test_alignment_puts_the_eyes_into_the_frame_to_a_fraction_of_a_pixel(where, frame):
    given_points = face_at(*where)
    rows, columns = np.mgrid[:250, :200]
    blobs = np.zeros((250, 200))
    for x, y in given_points[:2]:
        blobs += 200 * np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * (where[2] / 12) ** 2))
    aligned, moved = align_to(blobs.clip(0, 255).astype(np.uint8), given_points, FRAMES[frame])
    eyes = FRAMES[frame].eyes()
    assert np.abs(np.array(moved[:2]) - eyes).max() < 1e-6
    reach = int(np.linalg.norm(eyes[1] - eyes[0]) / 3)
    for x, y in eyes:  # and so do the pixels
        window = aligned[
            round(y) - reach : round(y) + reach + 1, round(x) - reach : round(x) + reach + 1
        ].astype(float)
        r, c = np.mgrid[-reach : reach + 1, -reach : reach + 1]
        found = np.array([(window * c).sum(), (window * r).sum()]) / window.sum() + (round(x), round(y))
        assert np.abs(found - (x, y)).max() < 0.5


def test_the_larger_face_frame_is_the_smaller_one_enlarged():
    small, large = FRAMES["face96"], FRAMES["face192"]
    assert np.array_equal(small.eyes(2), large.eyes())
    assert small.size(2) == large.size()


def test_a_turned_head_is_sized_by_its_mouth():
    frontal, turned = face_at(100, 120, 40, 0.1), face_at(100, 120, 40, 0.1, mouth=2 * MOUTH)
    assert np.abs(apply(frame_transform(frontal, CUFS), frontal[:2]) - CUFS.eyes()).max() < 1e-9
    scales = [np.sqrt(np.linalg.det(frame_transform(p, CUFS)[:, :2])) for p in (frontal, turned)]
    assert scales[1] < 0.75 * scales[0]


def test_photos_are_aligned_by_given_points_and_sketches_by_their_own(tmp_path):
    source = write_pair_folders(tmp_path / "mine", 1)
    for kind, shift in (("photos", 0), ("sketches", 7)):
        folder = tmp_path / "points" / kind
        folder.mkdir(parents=True)
        (folder / "p000.3pts").write_text(f"{70 + shift} 120\n{130 + shift} 120\n100 180\n")
    prepare("pairs", Source(source, points=tmp_path / "points"), tmp_path / "out", frame="cufs", val=0)
    (example,) = read_split(tmp_path / "out", "train")
    assert example.photo.shape == (250, 200, 3)
    found = list(csv.DictReader((tmp_path / "out" / "points.csv").open()))
    assert [r["of"] for r in found] == ["photo", "sketch"]
    for row in found:
        assert np.abs(np.array(json.loads(row["points"]))[:2] - CUFS.eyes()).max() < 0.01


def test_points_of_a_picture_that_is_read_smaller_are_those_of_its_file(tmp_path, monkeypatch):
    source = write_pair_folders(tmp_path / "mine", 1, (400, 500))
    table = tmp_path / "points.csv"
    lines = (f"{folder}/p000.png,100,200,300,202" for folder in ("photos", "sketches"))
    table.write_text("\n".join(["file,left_x,left_y,right_x,right_y", *lines]))
    given_points = Source(source, points=table)
    prepare("pairs", given_points, tmp_path / "whole", frame="cufs", val=0)
    monkeypatch.setattr(making, "read_image", partial(read_image, max_pixels=200 * 250))
    prepare("pairs", given_points, tmp_path / "smaller", frame="cufs", val=0)
    (whole,), (smaller,) = (read_split(tmp_path / name, "train") for name in ("whole", "smaller"))
    assert np.abs(whole.photo.astype(int) - smaller.photo).mean() < 3
    prepare("pairs", given_points, tmp_path / "unaligned", val=0)
    for row in csv.DictReader((tmp_path / "unaligned" / "points.csv").open()):
        assert json.loads(row["points"]) == [[49.75, 99.75], [149.75, 100.75]]


def test_a_sketch_that_is_scaled_to_its_photo_takes_its_points_along(tmp_path):
    source = write_pair_folders(tmp_path / "mine", 1)
    Image.fromarray(draw_pair(0, (400, 500))[1]).save(source / "sketches" / "p000.png")
    table = tmp_path / "points.csv"
    table.write_text("file,left_x,left_y,right_x,right_y\nsketches/p000.png,100,200,300,202\n")
    prepare("pairs", Source(source, points=table), tmp_path / "out")
    (row,) = csv.DictReader((tmp_path / "out" / "points.csv").open())
    assert json.loads(row["points"]) == [[49.75, 99.75], [149.75, 100.75]]  # of pixel centres


def test_points_are_given_to_any_protocols_pictures(tmp_path):
    write_pair_folders(tmp_path / "AR", 0)
    for kind, folder in enumerate(("photos", "sketches")):
        Image.fromarray(draw_pair(0)[kind]).save(tmp_path / "AR" / folder / "3.png")
    table = tmp_path / "points.csv"
    lines = ("photos/3.png,60,120,130,120", "sketches/3.png,62,120,132,120")
    table.write_text("\n".join(["file,left_x,left_y,right_x,right_y", *lines]))
    prepare("cufs", Source(tmp_path / "AR", points=table), tmp_path / "out", frame="cufs", val=0)
    (row, _) = csv.DictReader((tmp_path / "out" / "points.csv").open())
    assert np.abs(np.array(json.loads(row["points"])) - CUFS.eyes()).max() < 0.01


def test_points_of_another_size_of_the_picture_are_told(tmp_path):
    source = write_pair_folders(tmp_path / "mine", 1)
    points = tmp_path / "points.csv"
    points.write_text("file,left_x,left_y,right_x,right_y\np000.png,270,120,330,120\n")
    with pytest.raises(DataError, match=r"p000\.png: is 200x250 and its eyes lie outside"):
        prepare("pairs", Source(source, points=points), tmp_path / "out", frame="cufs")


def test_a_real_face_is_aligned_by_detection_and_a_picture_without_one_is_named(portrait, tmp_path):
    folder = tmp_path / "faces"
    folder.mkdir()
    Image.fromarray(read_image(portrait)).save(folder / "a.png")
    Image.new("RGB", (300, 300), (90, 120, 90)).save(folder / "b.png")
    report = prepare("pairs", folder, tmp_path / "out", frame="cufs", val=0, skip_bad=True)
    assert "b.png: no face found" in report.problems[0]
    assert [e.style for e in list_split(tmp_path / "out", "train")] == ["simulated"]
    picture = read_image(preview(tmp_path / "out"))
    assert ((picture == (220, 30, 30)).all(-1)).sum() > 10  # the points are drawn


def test_the_preview_shows_at_most_twenty_pairs(dataset):
    assert preview(dataset).name == "preview.png"
    assert read_image(dataset / "preview.png").shape[0] == 2 * 264


# ---- shards


def test_shards_hold_the_same_pictures_and_open_as_ordinary_tars(source, dataset, tmp_path, monkeypatch):
    from silverpoint.data import shards

    monkeypatch.setattr(shards.write_shards, "__defaults__", (3,))
    out = tmp_path / "packed"
    prepare("pairs", source, out, val=0.2, shards=True)
    assert sorted(p.name for p in out.iterdir()) == ["dataset.json", "pairs.csv", "shards"]
    for split in ("train", "val"):
        for packed, loose in zip(read_split(out, split), read_split(dataset, split), strict=True):
            assert packed.id == loose.id
            assert np.array_equal(packed.photo, loose.photo)
            assert np.array_equal(packed.sketch, loose.sketch)
    with tarfile.open(out / "shards" / "train-00000.tar") as tar:
        assert tar.getnames()[:2] == ["00000000.photo.png", "00000000.sketch.png"]
    assert len(list((out / "shards").glob("train-*.tar"))) == 3


def test_webdataset_reads_our_shards(source, tmp_path):
    webdataset = pytest.importorskip("webdataset")
    prepare("pairs", source, tmp_path / "packed", val=0, shards=True)
    shard = str(tmp_path / "packed" / "shards" / "train-00000.tar")
    samples = list(webdataset.WebDataset(shard, shardshuffle=False))
    assert len(samples) == 10
    assert {"photo.png", "sketch.png"} <= samples[0].keys()


def test_a_shard_that_is_cut_short_or_gone_is_named(source, tmp_path):
    prepare("pairs", source, tmp_path / "packed", val=0, shards=True)
    shard = tmp_path / "packed" / "shards" / "train-00000.tar"
    shard.write_bytes(shard.read_bytes()[:30_000])
    with pytest.raises(DataError, match=r"train-00000\.tar"):
        read_split(tmp_path / "packed", "train")


def test_celeba_becomes_aligned_jpeg_with_sketches_simulated_on_the_way(tmp_path):
    root = tmp_path / "celeba"
    (root / "img_align_celeba").mkdir(parents=True)
    lines = ["3", "names"]
    for i in (1, 2, 160_001):
        Image.fromarray(draw_pair(i, (178, 218))[0]).save(root / "img_align_celeba" / f"{i:06d}.jpg")
        lines.append(f"{i:06d}.jpg 70 110 108 110 89 135 75 155 103 155")
    (root / "list_landmarks_align_celeba.txt").write_text("\n".join(lines))
    report = prepare("celeba", root, tmp_path / "out", val=0, priors=[], shards=True)
    assert report.counted == "3 of 202599 pairs; 159998 train pairs missing; 42598 test pairs missing"
    first, _ = read_split(tmp_path / "out", "train")
    assert first.photo.shape == (96, 96, 3)
    assert first.style == "simulated"
    assert np.abs(simulate.sobel(first.photo).astype(int) - first.sketch).mean() < 8  # but for the JPEG
    rows = read_rows(tmp_path / "out")
    assert rows[0]["photo"] == "shards/train-00000.tar/00000000.photo.jpg"


def test_priors_of_a_simulated_pair_are_one_file_for_both(tmp_path, counted):
    folder = tmp_path / "faces"
    folder.mkdir()
    Image.fromarray(draw_pair(0)[0]).save(folder / "a.png")
    prepare("pairs", folder, tmp_path / "out", priors=["layout"], val=0)
    (row,) = read_rows(tmp_path / "out")
    assert len(counted) == 1
    assert row["layout"] == row["sketch_layout"]


# ---- priors of sketches


def test_a_sketchs_layout_is_refused_when_it_misses_the_face_or_lies_elsewhere():
    photo = np.zeros((100, 80), np.uint8)
    photo[5:30, 20:60], photo[30:80, 20:60], photo[50:58, 36:44], photo[65:70, 34:46] = 11, 1, 6, 8
    assert parsed(photo, photo)
    assert not parsed(np.zeros_like(photo), photo)
    nose_missing = np.where(photo == 6, 1, photo).astype(np.uint8)
    assert not parsed(nose_missing, photo)
    assert not parsed(np.roll(photo, 30, axis=1), photo)
    bald = np.where(photo == 11, 0, photo).astype(np.uint8)
    assert parsed(bald, bald)


def test_only_a_training_sketch_that_cannot_be_parsed_borrows_its_photos_layout(
    source, tmp_path, monkeypatch
):
    photos = np.full((250, 200), 1, np.uint8)
    noise = np.full((250, 200), 5, np.uint8)
    monkeypatch.setattr(preparing, "fetch_network", lambda kind: None)
    monkeypatch.setattr(making, "predictor", lambda kind: lambda image: photos)
    monkeypatch.setattr(making, "sketch_prior", lambda kind, sketch, of_photo: (noise, False))
    draw = tmp_path / "draw.txt"
    splits = {f"p{i:03d}": ("train", "val", "test")[i % 3] for i in range(10)}
    first = Source(source, draw=draw)
    draw.write_text("\n".join(f"mine {split} {id}" for id, split in splits.items()))
    prepare("pairs", first, tmp_path / "out", priors=["layout"])
    for row in read_rows(tmp_path / "out"):
        number = 1 if row["split"] == "train" else 5
        assert np.unique(np.asarray(Image.open(tmp_path / "out" / row["sketch_layout"]))) == [number]
    assert json.loads((tmp_path / "out" / "dataset.json").read_text())["notes"] == {
        "sketch_layout taken from the photo": 4,
        "sketch_layout poor, kept as it is": 6,
    }
    splits |= {"p000": "test", "p002": "train"}  # drawn otherwise, both are made anew
    draw.write_text("\n".join(f"mine {split} {id}" for id, split in splits.items()))
    prepare("pairs", first, tmp_path / "out", priors=["layout"])
    for name, number in (("p000", 5), ("p002", 1), ("p001", 5), ("p003", 1)):
        assert np.unique(np.asarray(Image.open(tmp_path / f"out/sketch_layout/mine/{name}.png"))) == [number]


# ---- the command


def test_the_command_fails_when_pairs_were_left_out(tmp_path, capsys):
    source = spoil(write_pair_folders(tmp_path / "mine", 5))
    arguments = ["prepare", "pairs", str(source), "--out", str(tmp_path / "out"), "--workers", "1"]
    assert main([*arguments, "--skip-bad"]) == 1
    assert "2 pairs" in capsys.readouterr().out
    assert len(read_rows(tmp_path / "out")) == 2


def test_the_command_counts_aloud_and_names_problems(source, tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    for folder in ("photos", "sketches"):
        (tmp_path / "mine" / folder).symlink_to(source / folder)
    arguments = ["prepare", "pairs", str(tmp_path / "mine"), "--out", str(tmp_path / "out"), "--workers", "1"]
    assert main([*arguments, "--test", "0.2", "--preview"]) == 0
    assert "10 pairs" in capsys.readouterr().out
    assert main([*arguments, "--test", "1.5"]) == 2
    assert (tmp_path / "out" / "preview.png").is_file()


# ---- sketches without photos


@pytest.fixture
def hand(tmp_path):
    """Five drawings, and where their eyes are."""
    folder = tmp_path / "hand" / "sketches"
    folder.mkdir(parents=True)
    for i in range(5):
        Image.fromarray(draw_pair(i)[1]).save(folder / f"d{i}.png")
    rows = [f"sketches/d{i}.png,70,120,130,120" for i in range(5)]
    (tmp_path / "eyes.csv").write_text("\n".join(["file,left_x,left_y,right_x,right_y", *rows]))
    return Source(tmp_path / "hand", points=tmp_path / "eyes.csv")


@pytest.mark.parametrize("shards", [False, True])
def test_sketches_alone_are_aligned_by_their_own_eyes_and_stay_in_training(
    hand, tmp_path, counted, monkeypatch, shards
):
    monkeypatch.setattr(checking, "detect_points", lambda _: FRAMES["face96"].eyes())
    out = tmp_path / "out"
    prepare("pairs", hand, out, frame="face96", priors=["saliency", "layout"], shards=shards, val=0.4)
    rows = read_rows(out)
    assert [(r["photo"], r["saliency"], r["split"]) for r in rows] == [("", "", "train")] * 5
    assert [kind for kind, _ in counted] == ["saliency", "layout"] * 5
    assert all(r["sketch_saliency"] and r["sketch_layout"] for r in rows)
    stored = list_sketches(out, "train")
    expected, _ = align_to(draw_pair(3)[1], ((70, 120), (130, 120)), FRAMES["face96"])
    assert np.array_equal(stored[3].load_sketch(), expected)
    with pytest.raises(DataError, match=r"5 of 5 sketches .* have no photo, d0 for one; .*--unpaired"):
        list_split(out, "train")
    assert preview(out).is_file()
    found = checking.check(out)
    assert found.faults == []
    assert "5 of them sketches without photos" in found.facts["pairs"]
    assert found.facts["alignment"] == "frame face96, eyes off by sketch 0.0 pixels, worst 0.0"


def test_sketches_alone_are_made_once(hand, tmp_path, counted):
    out = tmp_path / "out"
    prepare("pairs", hand, out, frame="face96", priors=["saliency"])
    before = tree(out)
    prepare("pairs", hand, out, frame="face96", priors=["saliency"])
    assert len(counted) == 5
    assert tree(out) == before


def test_pairs_and_sketches_alone_may_stand_in_one_table(tmp_path, counted):
    source = write_pair_folders(tmp_path / "mine", 3)
    lines = ["photo,sketch,id", *(f"photos/p00{i}.png,sketches/p00{i}.png,p{i}" for i in range(2))]
    (source / "mine.csv").write_text("\n".join([*lines, ",sketches/p002.png,alone"]))
    prepare("pairs", source / "mine.csv", tmp_path / "out", val=0, priors=["saliency"])
    assert [r["saliency"] != "" for r in read_rows(tmp_path / "out")] == [False, True, True]
    assert all(r["sketch_saliency"] for r in read_rows(tmp_path / "out"))
    assert checking.check(tmp_path / "out").faults == []
    assert preview(tmp_path / "out").is_file()
