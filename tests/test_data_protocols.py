"""Every protocol on a miniature of its database's folders, whole and damaged."""

import csv
import json
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from drawn import draw_pair, write_pair_folders
from silverpoint.data.pairs import read_split
from silverpoint.data.points import read_points, with_points
from silverpoint.data.prepare import prepare
from silverpoint.data.protocols import PROTOCOLS, Source
from silverpoint.data.protocols.listing import read_draw, safe_id
from silverpoint.errors import DataError
from silverpoint.faces.align import CUFS

PHOTO, SKETCH = draw_pair(0)


def write(path: Path, image=PHOTO):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
    return path


def listing(protocol, folder, **options):
    return PROTOCOLS[protocol](Source(folder, **options))


def table(folder, *rows):
    (folder / "pairs.csv").write_text("\n".join(["subset,split,photo,sketch,id", *rows]))
    return folder


# ---- CUFS


@pytest.mark.parametrize(
    ("subset", "train", "test"), [("CUHK", 88, 100), ("AR", 80, 43), ("XM2VTS", 100, 195)]
)
def test_the_published_draw_of_cufs_has_the_fields_counts(subset, train, test):
    splits = [split for (s, _), split in read_draw(None, "cufs").items() if s == subset]
    assert (splits.count("train"), splits.count("test")) == (train, test)


def test_cufs_is_read_from_its_table_and_counted_aloud(tmp_path):
    source = write_pair_folders(tmp_path / "cufs", 3)
    rows = [
        "CUHK,train,photos/p000.png,sketches/p000.png,f-005-01",
        "AR,test,photos/p001.png,sketches/p001.png,2",
        "XM2VTS,train,photos/p002.png,sketches/p002.png,100",
    ]
    found = listing("cufs", table(source, *rows))
    assert [(p.subset, p.id, p.split, p.style) for p in found.pairs] == [
        ("CUHK", "f-005-01", "train", "cufs"),
        ("AR", "2", "test", "cufs-ar"),
        ("XM2VTS", "100", "train", "cufs-xm2vts"),
    ]
    assert found.count() == (
        "3 of 606 pairs; 266 train pairs missing (CUHK 87, AR 80, XM2VTS 99); "
        "337 test pairs missing (CUHK 100, AR 42, XM2VTS 195)"
    )


def test_cufs_is_read_from_the_folders_it_is_downloaded_in(tmp_path):
    root = tmp_path / "CUFS"
    for kind, photo, sketch in (
        ("training", "f-005-01.jpg", "F2-005-01-sz1.jpg"),
        ("testing", "m1-001-01.jpg", "m1-001-01-sz1.jpg"),
        ("testing", "f-039-01.jpg", "F2-039-01-sz1.jpg"),
    ):
        write(root / f"CUHK_{kind}_cropped_photos" / "photos" / photo)
        write(root / f"CUHK_{kind}_cropped_sketches" / "sketches" / sketch, SKETCH)
    found = listing("cufs", root)
    assert {(p.id, p.split) for p in found.pairs} == {
        ("f-005-01", "train"),
        ("f-039-01", "test"),
        ("m1-001-01", "test"),
    }
    assert all("sketch" in str(p.sketch) and "photo" in str(p.photo) for p in found.pairs)
    assert found.problems == []


def test_cufs_is_read_from_the_folders_that_circulate(tmp_path):
    for subset, split, id in (("AR", "Training", "3"), ("AR", "Testing", "106"), ("XM2VTS", "Training", "2")):
        write(tmp_path / subset / f"{split} Photos" / f"{id}.jpg")
        write(tmp_path / subset / f"{split} Sketches" / f"{id}.jpg", SKETCH)
    found = listing("cufs", tmp_path)
    assert [(p.subset, p.id, p.split) for p in found.pairs] == [
        ("AR", "3", "train"),
        ("AR", "106", "test"),
        ("XM2VTS", "2", "train"),
    ]


def test_the_folder_nearest_the_file_says_the_subset_and_what_it_is(tmp_path):
    root = tmp_path / "CUHK Face Sketch Database"
    write(root / "AR" / "Training Photos" / "3.jpg")
    write(root / "AR" / "Training Sketches" / "3.jpg", SKETCH)
    for folder in (root, tmp_path, root / "AR"):
        (pair,) = listing("cufs", folder).pairs
        assert (pair.subset, pair.id, pair.sketch.parent.name) == ("AR", "3", "Training Sketches")


def test_what_lies_in_the_wrong_splits_folder_is_named_and_the_draw_holds(tmp_path):
    write(tmp_path / "AR" / "Training Photos" / "106.jpg")
    write(tmp_path / "AR" / "Training Sketches" / "106.jpg", SKETCH)
    found = listing("cufs", tmp_path)
    assert found.pairs[0].split == "test"
    assert "drawn for test" in found.problems[0]


def test_a_photo_without_its_sketch_is_named(tmp_path):
    for id in ("3", "4"):
        write(tmp_path / "AR" / "Training Photos" / f"{id}.jpg")
    write(tmp_path / "AR" / "Training Sketches" / "3.jpg", SKETCH)
    write(tmp_path / "AR" / "Training Sketches" / "5.jpg", SKETCH)
    found = listing("cufs", tmp_path)
    assert [p.id for p in found.pairs] == ["3"]
    assert sorted(problem.split(": ")[1] for problem in found.problems) == ["has no photo", "has no sketch"]


def test_original_names_outside_the_draw_ask_for_one(tmp_path):
    write(tmp_path / "AR_cropped_photos" / "m-001-1.bmp")
    write(tmp_path / "AR_cropped_sketches" / "M2-001-1-sz1.jpg", SKETCH)
    with pytest.raises(DataError, match=r"m-001 is not in the draw.*--draw"):
        listing("cufs", tmp_path)
    draw = tmp_path / "mine.txt"
    draw.write_text("# mine\nAR test m-001\n")
    found = listing("cufs", tmp_path, draw=draw)
    assert [(p.id, p.split) for p in found.pairs] == [("m-001", "test")]
    assert found.count() == "1 pairs"  # the published counts are of the published draw


def test_a_table_that_reaches_outside_its_folder_is_refused(tmp_path):
    source = table(tmp_path, "CUHK,train,../../etc/passwd,sketches/p.png,f-005-01")
    with pytest.raises(DataError, match=r"pairs\.csv, line 2: \.\./\.\./etc/passwd lies outside"):
        listing("cufs", source)


def test_a_table_may_name_links_that_lie_in_its_folder(tmp_path):
    elsewhere = write_pair_folders(tmp_path / "elsewhere", 1)
    source = tmp_path / "linked"
    source.mkdir()
    for folder in ("photos", "sketches"):
        (source / folder).mkdir()
        (source / folder / "p000.png").symlink_to(elsewhere / folder / "p000.png")
    table(source, "CUHK,train,photos/p000.png,sketches/p000.png,f-005-01")
    assert [p.id for p in listing("cufs", source).pairs] == ["f-005-01"]


def test_rows_of_a_table_whose_files_are_not_there_are_missing_pairs(tmp_path):
    rows = (
        "CUHK,train,photos/p000.png,sketches/p000.png,f-005-01",
        "AR,test,photos/gone.png,sketches/p000.png,2",
        "AR,test,photos/p000.png,sketches/gone.png,1",
    )
    found = listing("cufs", table(write_pair_folders(tmp_path / "cufs", 1), *rows))
    assert [p.id for p in found.pairs] == ["f-005-01"]
    assert "AR 43" in found.count()
    (problem,) = found.problems  # one line, and not one for each of 238 rows
    assert "line 3: there is no " in problem
    assert problem.endswith("gone.png; so it is with 2 rows")
    with pytest.raises(DataError, match=r"none of the pairs of its table, .*gone\.png"):
        listing("cufs", table(tmp_path / "cufs", rows[1]))


def test_a_row_with_the_photo_and_sketch_of_different_students_is_named(tmp_path):
    for name in ("f-005-01.jpg", "F2-005-01-sz1.jpg", "F2-006-01-sz1.jpg"):
        write(tmp_path / name)
    rows = ("CUHK,train,f-005-01.jpg,F2-005-01-sz1.jpg,a", "CUHK,train,f-005-01.jpg,F2-006-01-sz1.jpg,b")
    (problem,) = listing("cufs", table(tmp_path, *rows)).problems
    assert "line 3: f-005-01.jpg and F2-006-01-sz1.jpg are of different people" in problem


def test_of_photographs_and_their_crops_the_crops_are_taken(tmp_path):
    for part, ending in (("photo", "photo"), ("cropped_photos", "photos")):
        write(tmp_path / f"CUHK_training_{part}" / ending / "f-005-01.jpg")
    for part, ending in (("sketch", "sketch"), ("cropped_sketches", "sketches")):
        write(tmp_path / f"CUHK_training_{part}" / ending / "F2-005-01-sz1.jpg", SKETCH)
    (pair,) = listing("cufs", tmp_path).pairs
    assert "cropped" in str(pair.photo.relative_to(tmp_path))
    assert "cropped" in str(pair.sketch.relative_to(tmp_path))
    write(tmp_path / "CUHK_training_cropped_photos" / "copy of photos" / "f-005-01.jpg")
    with pytest.raises(DataError, match="of the same person"):
        listing("cufs", tmp_path)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("AR train 1\nAR test 1\n", "twice"),
        ("AR maybe 1\n", "line 1"),
        ("AR train\n", "line 1"),
        ("# nothing\n", "no draw"),
    ],
)
def test_a_draw_that_is_none_is_refused(tmp_path, text, says):
    path = tmp_path / "draw.txt"
    path.write_text(text)
    with pytest.raises(DataError, match=says):
        read_draw(path, "cufs")


@given(st.text() | st.text("./\\-: a\n"))
def test_an_id_names_a_file_of_its_folder_or_is_refused(name):
    try:
        id = safe_id(name, "here")
    except DataError:
        assert not any(character.isalnum() for character in name)
    else:
        assert Path(id).name == id == safe_id(id, "here")
        assert not id.startswith((".", "-"))
        assert not set(id) & set("/\\: \n")


def test_a_name_that_leaves_no_id_is_told_with_its_place():
    with pytest.raises(DataError, match=r"^mine\.csv, line 2: '\(\)' cannot name a file; use"):
        safe_id("()", "mine.csv, line 2")


def test_an_empty_or_missing_folder_is_no_database(tmp_path):
    for protocol in ("cufs", "cufsf", "fs2k", "celeba", "pairs"):
        with pytest.raises(DataError):
            listing(protocol, tmp_path)
        with pytest.raises(DataError):
            listing(protocol, tmp_path / "missing")


# ---- CUFSF


def test_cufsf_pairs_ferets_photos_with_sketches_and_reads_points(tmp_path):
    for id in ("00005", "00001"):
        write(tmp_path / "photo" / f"{id}fa010_930831.tif", PHOTO[..., 0])
        write(tmp_path / "original_sketch" / f"{id}.jpg", SKETCH)
        write(tmp_path / "cropped_sketch" / f"{id}.jpg", SKETCH)
    for folder, name in (("photo_points", "00005fa010_930831"), ("sketch_points", "00005")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{name}.3pts").write_text("120.5 80\n60 81.5\n90 150\n")
    found = listing("cufsf", tmp_path)
    assert [(p.id, p.split) for p in found.pairs] == [("00001", "test"), ("00005", "train")]
    marked = found.pairs[1]
    assert marked.photo_points == marked.sketch_points == ((60, 81.5), (120.5, 80), (90, 150))
    assert marked.sketch.parent.name == "original_sketch"  # what the points were set on
    assert found.pairs[0].photo_points is None
    assert found.count() == "2 of 1194 pairs; 249 train pairs missing; 943 test pairs missing"


def test_cufsf_takes_the_photo_that_was_drawn(tmp_path):
    for name in ("00005fa010_930831", "00005fb010_940128"):
        write(tmp_path / "photo" / f"{name}.tif")
    write(tmp_path / "cropped_sketch" / "00005.jpg", SKETCH)
    listed = tmp_path / "names_of_photos_used_for_drawing_sketches.txt"
    listed.write_text("00005fb010_940128.tif\n")
    assert listing("cufsf", tmp_path).pairs[0].photo.stem == "00005fb010_940128"
    listed.unlink()
    assert "one of 2 photos" in listing("cufsf", tmp_path).problems[0]


def test_cufsfs_points_of_photo_and_sketch_are_told_apart_by_their_folder(tmp_path):
    root = tmp_path / "sketches of a database"  # what lies above the source says nothing
    write(root / "photo" / "00005fa010_930831.tif", PHOTO[..., 0])
    write(root / "sketch" / "00005.jpg", SKETCH)
    for folder, x in (("photo_points", 60), ("sketch_points", 50)):
        (root / folder).mkdir()
        (root / folder / "00005.3pts").write_text(f"{x} 80\n120 80\n")
    (pair,) = listing("cufsf", root).pairs
    assert (pair.photo_points[0], pair.sketch_points[0]) == ((60, 80), (50, 80))
    table = tmp_path / "mine.csv"
    table.write_text("file,left_x,left_y,right_x,right_y\n00005fa010_930831.tif,66,80,120,81\n")
    (pair,) = with_points([pair], table)  # one's own come first, what they lack stays
    assert (pair.photo_points[0], pair.sketch_points[0]) == ((66, 80), (50, 80))


def test_cufsf_is_aligned_by_its_points_from_grey_photos_of_any_size(tmp_path):
    eyes = {"photo": ((200, 300), (290, 310), (240, 405)), "sketch": ((90, 140), (150, 140), (120, 205))}
    for kind, size, name in (
        ("photo", (512, 768), "00005fa010_930831.tif"),
        ("sketch", (260, 330), "00005.jpg"),
    ):
        image = Image.new("L", size, 180)
        for x, y in eyes[kind][:2]:
            ImageDraw.Draw(image).ellipse([x - 9, y - 9, x + 9, y + 9], fill=20)
        write(tmp_path / "db" / kind / name, np.asarray(image))
        points = tmp_path / "db" / f"{kind}_points" / f"{Path(name).stem}.3pts"
        points.parent.mkdir()
        points.write_text("".join(f"{x} {y}\n" for x, y in eyes[kind]))
    assert prepare("cufsf", tmp_path / "db", tmp_path / "out", val=0).pairs == 1
    (example,) = read_split(tmp_path / "out", "train")
    assert example.photo.shape == (250, 200, 3)
    assert example.sketch.shape == (250, 200)
    assert max(example.photo[125, [75, 125], 0].max(), example.sketch[125, [75, 125]].max()) < 60
    assert min(example.photo[125, 100, 0], example.sketch[125, 100]) > 150
    for row in csv.DictReader((tmp_path / "out" / "points.csv").open()):
        assert np.abs(np.array(json.loads(row["points"]))[:2] - CUFS.eyes()).max() < 0.01


@pytest.mark.parametrize("text", ["", "1 2\n", "a b\nc d\n", "1 2\n1 2\n", "nan 1\n5 1\n", "1 2 3\n4 5 6\n"])
def test_a_damaged_point_file_is_named(tmp_path, text):
    path = tmp_path / "00005.3pts"
    path.write_text(text)
    with pytest.raises(DataError, match=r"00005\.3pts"):
        read_points(path)


# ---- FS2K


def fs2k(root, *entries):
    by_split = {"train": [], "test": []}
    for split, name, style, attributes in entries:
        folder, number = name.split("/image")
        write(root / "photo" / folder / f"image{number}.jpg")
        write(root / "sketch" / folder.replace("photo", "sketch") / f"sketch{number}.png", SKETCH)
        by_split[split].append({"image_name": name, "style": style, **attributes})
    for split, found in by_split.items():
        (root / f"anno_{split}.json").write_text(json.dumps(found))
    return root


def test_fs2k_keeps_the_official_split_styles_and_attributes(tmp_path):
    attributes = {"gender": 1, "smile": 0, "skin_color": [163.5, 139]}
    root = fs2k(tmp_path, ("train", "photo1/image0110", 0, attributes), ("test", "photo3/image0002", 2, {}))
    found = listing("fs2k", root)
    assert [(p.id, p.subset, p.split, p.style) for p in found.pairs] == [
        ("photo1-0110", "photo1", "train", "fs2k1"),
        ("photo3-0002", "photo3", "test", "fs2k3"),
    ]
    assert found.pairs[0].attributes == {"gender": "1", "smile": "0", "skin_color": "163.5 139"}
    assert found.count() == "2 of 2104 pairs; 1057 train pairs missing; 1045 test pairs missing"


def test_fs2k_as_prepared_has_its_split_styles_and_attributes(tmp_path):
    root = fs2k(
        tmp_path / "FS2K",
        ("train", "photo1/image0110", 0, {"gender": 1, "skin_color": [163.5, 139]}),
        ("train", "photo2/image0003", 1, {"gender": 0}),
        ("test", "photo3/image0002", 2, {"gender": 0}),
    )
    report = prepare("fs2k", root, tmp_path / "out", val=0)
    assert report.counted == "3 of 2104 pairs; 1056 train pairs missing; 1045 test pairs missing"
    train, test = (read_split(tmp_path / "out", split) for split in ("train", "test"))
    assert [(e.subset, e.id, e.style) for e in [*train, *test]] == [
        ("photo1", "photo1-0110", "fs2k1"),
        ("photo2", "photo2-0003", "fs2k2"),
        ("photo3", "photo3-0002", "fs2k3"),
    ]
    assert np.array_equal(train[0].sketch, SKETCH)
    rows = list(csv.DictReader((tmp_path / "out" / "attributes.csv").open()))
    assert [(r["id"], r["gender"], r["skin_color"]) for r in rows] == [
        ("photo1-0110", "1", "163.5 139"),
        ("photo2-0003", "0", ""),
        ("photo3-0002", "0", ""),
    ]


def test_fs2k_without_its_test_part_and_with_a_missing_sketch_is_read(tmp_path):
    root = fs2k(tmp_path, ("train", "photo1/image0110", 0, {}), ("train", "photo1/image0111", 1, {}))
    (root / "anno_test.json").unlink()
    (root / "sketch" / "sketch1" / "sketch0111.png").unlink()
    found = listing("fs2k", root)
    assert [p.id for p in found.pairs] == ["photo1-0110"]
    assert "photo1/image0111 has no sketch" in found.problems[0]


@pytest.mark.parametrize(
    "text", ["", "{}x", '[{"image_name": 3, "style": 0}]', "[1]", '[{"image_name": "photo1/image1"}]', "7"]
)
def test_a_damaged_annotation_is_named(tmp_path, text):
    (tmp_path / "anno_train.json").write_text(text)
    with pytest.raises(DataError, match=r"anno_train\.json"):
        listing("fs2k", tmp_path)


def test_an_annotation_cannot_reach_outside(tmp_path):
    entry = {"image_name": "../../image0001", "style": 0}
    (tmp_path / "anno_train.json").write_text(json.dumps([entry]))
    with pytest.raises(DataError):
        listing("fs2k", tmp_path)


# ---- CelebA


def celeba(root, *numbers):
    for number in numbers:
        write(root / "Img" / "img_align_celeba" / f"{number:06d}.jpg", np.zeros((218, 178, 3), np.uint8))
    return root


def test_celeba_is_split_as_da_gan_counts_and_has_its_sketches_simulated(tmp_path):
    found = listing("celeba", celeba(tmp_path, 1, 160_000, 160_001, 202_599))
    assert [p.split for p in found.pairs] == ["train", "train", "test", "test"]
    assert all(p.sketch is None and p.style == "simulated" for p in found.pairs)
    assert sum(found.expected.values()) == 202_599
    assert "list_landmarks_align_celeba.txt; eyes are detected" in found.problems[0]


def test_celeba_knows_its_own_partition_and_landmarks(tmp_path):
    root = celeba(tmp_path, 1, 2, 3)
    partition = root / "list_eval_partition.txt"
    partition.write_text("000001.jpg 0\n000002.jpg 1\n000003.jpg 2\n")
    (root / "list_landmarks_align_celeba.txt").write_text(
        "202599\nlefteye_x lefteye_y righteye_x righteye_y nose_x nose_y leftmouth_x leftmouth_y\n"
        "000001.jpg 69 109 106 113 77 142 73 152 108 154\n"
    )
    found = listing("celeba", root, draw=partition)
    assert [p.split for p in found.pairs] == ["train", "val", "test"]
    assert found.pairs[0].photo_points == ((69, 109), (106, 113), (90.5, 153))


# ---- pairs


def test_pairs_are_split_by_ratio_and_seed(tmp_path):
    source = write_pair_folders(tmp_path / "mine", 10)
    draws = [[p.split for p in listing("pairs", source, test=0.3, seed=seed).pairs] for seed in (0, 0, 1)]
    assert draws[0].count("test") == 3
    assert draws[0] == draws[1] != draws[2]
    assert {p.split for p in listing("pairs", source).pairs} == {"train"}


def test_one_id_in_two_subsets_is_drawn_for_testing_in_one_alone(tmp_path):
    write_pair_folders(tmp_path / "mine", 1)
    rows = [f"photos/p000.png,{n},{subset}" for subset in "ab" for n in range(10)]
    table = tmp_path / "mine" / "mine.csv"
    table.write_text("\n".join(["photo,id,subset", *rows]))
    splits = [p.split for p in listing("pairs", table, test=0.3).pairs]
    assert splits.count("test") == 6


def test_a_draw_decides_over_folders_and_tables_and_names_who_is_not_in_it(tmp_path):
    write(tmp_path / "photos" / "x 1.jpg")
    write(tmp_path / "photos" / "y.jpg")
    table = tmp_path / "mine.csv"
    table.write_text("photo,id,subset,split\nphotos/y.jpg,y,mine,train\n")
    draw = tmp_path / "draw.txt"
    draw.write_text(f"{tmp_path.name} test x-1\n{tmp_path.name} val y\nmine test y\n")
    assert [(p.id, p.split) for p in listing("pairs", tmp_path, draw=draw).pairs] == [
        ("x-1", "test"),
        ("y", "val"),
    ]
    assert [p.split for p in listing("pairs", table, draw=draw).pairs] == ["test"]
    draw.write_text(f"{tmp_path.name} test x-1\n")
    for source in (tmp_path, table):
        with pytest.raises(DataError, match=r"y\.jpg: .* y is not in .*draw\.txt"):
            listing("pairs", source, draw=draw)


def test_a_draw_for_fs2k_has_to_name_every_pair(tmp_path):
    root = fs2k(tmp_path, ("train", "photo1/image0110", 0, {}), ("test", "photo1/image0002", 2, {}))
    draw = tmp_path / "draw.txt"
    draw.write_text("photo1 test photo1-0110\n")
    with pytest.raises(DataError, match="photo1-0002 is not in"):
        listing("fs2k", root, draw=draw)


def test_pairs_of_two_folders_anywhere(tmp_path):
    write(tmp_path / "a" / "x 1.jpg")
    write(tmp_path / "b" / "deep" / "x 1.png", SKETCH)
    (pair,) = listing("pairs", tmp_path / "a", sketches=tmp_path / "b").pairs
    assert (pair.id, pair.sketch.name) == ("x-1", "x 1.png")


def test_ordinary_names_become_ids_also_as_a_mac_writes_them(tmp_path):
    root = tmp_path / "My photos (2020)"
    decomposed = unicodedata.normalize("NFD", "Jürg")
    write(root / "photos" / "IMG 1 (2).jpg")
    write(root / "sketches" / "IMG 1 (2).png", SKETCH)
    write(root / "photos" / f"{decomposed}.jpg")
    write(root / "sketches" / "Jürg.png", SKETCH)
    draw = tmp_path / "draw.txt"
    draw.write_text(f"My-photos-2020 test IMG-1-2 {decomposed}", encoding="utf-8")
    found = listing("pairs", root, draw=draw)
    assert [(p.subset, p.id, p.split) for p in found.pairs] == [
        ("My-photos-2020", "IMG-1-2", "test"),
        ("My-photos-2020", "Jürg", "test"),
    ]
    assert found.problems == []


POINTS = "file,left_x,left_y,right_x,right_y\n"


def test_photos_alone_are_to_be_simulated_and_take_points_from_a_table(tmp_path):
    write(tmp_path / "faces" / "001_03.jpg")
    points = tmp_path / "pupils.csv"
    points.write_text(POINTS + "001_03.jpg,60,80,120,81\n")
    (pair,) = with_points(listing("pairs", tmp_path / "faces").pairs, points)
    assert pair.sketch is None
    assert pair.photo_points == ((60, 80), (120, 81))


def test_points_of_one_name_are_told_apart_by_their_folders_or_refused(tmp_path):
    for subset in ("AR", "CUHK"):
        write(tmp_path / "db" / subset / "Training Photos" / "3.jpg")
        write(tmp_path / "db" / subset / "Training Sketches" / "3.jpg", SKETCH)
    pairs = listing("cufs", tmp_path / "db" / "AR").pairs
    points = tmp_path / "points.csv"
    points.write_text(
        POINTS + "CUHK/Training Photos/3.jpg,50,80,120,81\nAR/Training Photos/3.jpg,60,80,120,81\n"
    )
    assert with_points(pairs, points)[0].photo_points[0] == (60, 80)
    points.write_text(POINTS + "b/3.jpg,50,80,120,81\na/3.jpg,60,80,120,81\n")
    with pytest.raises(DataError, match=r"3\.jpg: 2 point files have its name"):
        with_points(pairs, points)


def test_points_that_are_none_or_of_no_picture_are_refused(tmp_path):
    write(tmp_path / "faces" / "a.jpg")
    pairs = listing("pairs", tmp_path / "faces").pairs
    (tmp_path / "points.csv").write_text(POINTS + "other.jpg,50,80,120,81\n")
    with pytest.raises(DataError, match="none of the pictures"):
        with_points(pairs, tmp_path / "points.csv")
    for nothing in (tmp_path / "missing", tmp_path / "faces"):
        with pytest.raises(DataError, match="neither a table"):
            with_points(pairs, nothing)


def test_pairs_by_a_table_keep_what_it_says(tmp_path):
    write(tmp_path / "p.png")
    write(tmp_path / "s.png", SKETCH)
    path = tmp_path / "mine.csv"
    path.write_text("photo,sketch,id,subset,split,style\np.png,s.png,me,family,test,aunt\n")
    (pair,) = listing("pairs", path).pairs
    assert (pair.id, pair.subset, pair.split, pair.style) == ("me", "family", "test", "aunt")
    path.write_text("photo,sketch\np.png,gone.png\n")
    with pytest.raises(DataError, match=r"line 2.*gone\.png"):
        listing("pairs", path)
    path.write_bytes(b"\xff\xfe\x00garbage")
    with pytest.raises(DataError, match=r"mine\.csv"):
        listing("pairs", path)


def test_two_photos_of_one_name_are_refused(tmp_path):
    source = write_pair_folders(tmp_path / "mine", 1)
    write(source / "photos" / "p000.jpg")
    with pytest.raises(DataError, match="same name"):
        listing("pairs", source)


def test_a_folder_of_sketches_without_photos_holds_sketches_alone(tmp_path):
    for name in ("10.png", "9.png"):
        write(tmp_path / "hand" / "sketches" / name, SKETCH)
    pairs = listing("pairs", tmp_path / "hand").pairs
    assert [(p.id, p.photo, p.sketch.name, p.style) for p in pairs] == [
        ("9", None, "9.png", "hand"),
        ("10", None, "10.png", "hand"),
    ]
    points = tmp_path / "pupils.csv"  # of files whose folder does not say that they are drawn
    points.write_text(POINTS + "9.png,60,80,120,81\n")
    assert with_points(pairs, points)[0].sketch_points == ((60, 80), (120, 81))


def test_pictures_beside_a_folder_of_sketches_are_not_guessed_about(tmp_path):
    write(tmp_path / "hand" / "sketches" / "a.png", SKETCH)
    write(tmp_path / "hand" / "a.jpg")
    with pytest.raises(DataError, match=r"a\.jpg: lies beside sketches/; move photos to .*photos"):
        listing("pairs", tmp_path / "hand")


def test_rows_of_a_table_may_have_no_photo_but_not_nothing(tmp_path):
    write(tmp_path / "s.png", SKETCH)
    path = tmp_path / "mine.csv"
    for text in ("sketch\ns.png\n", "photo,sketch\n,s.png\n"):
        path.write_text(text)
        (pair,) = listing("pairs", path).pairs
        assert (pair.id, pair.photo, pair.style) == ("s", None, "mine")
    path.write_text("photo,sketch,id\n,,x\n")
    with pytest.raises(DataError, match="line 2: names neither a photo nor a sketch"):
        listing("pairs", path)
