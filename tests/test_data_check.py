"""The dataset doctor finds each thing that would spoil a result, and nothing in a sound dataset."""

import csv
import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from drawn import draw_pair, write_pair_folders
from silverpoint.cli.main import main
from silverpoint.data.check import check
from silverpoint.data.prepare import prepare
from silverpoint.data.protocols import Source
from silverpoint.errors import DataError

COUNT = 24


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    root = tmp_path_factory.mktemp("sound")
    source = write_pair_folders(root / "mine", COUNT)
    prepare("pairs", Source(source, test=0.25), root / "dataset", val=0.1)
    return root / "dataset"


@pytest.fixture
def dataset(sound, tmp_path):
    return Path(shutil.copytree(sound, tmp_path / "dataset"))


def rows(dataset):
    return list(csv.DictReader((dataset / "pairs.csv").open(newline="")))


def of_split(dataset, split, n=0):
    return [r for r in rows(dataset) if r["split"] == split][n]


def rewrite(dataset, change):
    """Change rows as `prepare` would have written them: with the hash."""
    changed = change(rows(dataset))
    with (dataset / "pairs.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, changed[0].keys())
        writer.writeheader()
        writer.writerows(changed)
    about = json.loads((dataset / "dataset.json").read_text())
    about["sha256"] = hashlib.sha256((dataset / "pairs.csv").read_bytes()).hexdigest()
    (dataset / "dataset.json").write_text(json.dumps(about))


def test_a_sound_dataset_has_no_faults_and_says_what_it_is(sound, capsys):
    assert main(["check", str(sound)]) == 0
    page = capsys.readouterr().out
    assert "16 train, 2 val, 6 test" in page
    assert "no picture is shared between splits" in page
    assert "of 24 photos fit their own sketch best" in page
    assert page.splitlines()[-1] == "this dataset is sound"


def fault(dataset, *words):
    faults = check(dataset).faults
    assert any(all(w in line for w in words) for line in faults), faults
    assert main(["check", str(dataset)]) == 1


def test_a_damaged_a_missing_and_a_blank_file_are_named(dataset):
    damaged, missing, blank = (dataset / of_split(dataset, "train", n)["photo"] for n in range(3))
    damaged.write_bytes(damaged.read_bytes()[:700])
    missing.unlink()
    Image.new("RGB", (200, 250), (9, 9, 9)).save(blank)
    for path, word in ((damaged, "damaged"), (missing, "no such file")):
        fault(dataset, path.name, word)
    fault(dataset, blank.stem, "blank")


def test_a_table_changed_by_hand_is_told_by_its_hash(dataset):
    table = dataset / "pairs.csv"
    table.write_text(table.read_text().replace("test", "train", 1))
    fault(dataset, "pairs.csv", "hash")


@pytest.mark.parametrize(
    "text",
    [
        '{"protocol": "pa',
        "[]",
        '{"protocol": "cufs", "sha256": 1, "expected": [["AR"]], "problems": [], "notes": {}}',
        '{"protocol": "cufs", "sha256": 1, "expected": [], "problems": 3, "notes": {}}',
    ],
)
def test_a_half_written_description_is_a_fault(dataset, text):
    (dataset / "dataset.json").write_text(text)
    fault(dataset, "dataset.json")


@pytest.mark.parametrize("kind", ["photo", "sketch"])
def test_a_picture_in_two_splits_is_a_leak_however_it_is_stored(dataset, kind):
    test, train = of_split(dataset, "test"), of_split(dataset, "train")
    Image.open(dataset / train[kind]).save(dataset / test[kind], compress_level=1)
    fault(dataset, f"one {kind} in several splits", test["id"], train["id"])


def test_a_photo_saved_again_as_jpeg_still_leaks(dataset, tmp_path):
    test, train = of_split(dataset, "test"), of_split(dataset, "train")
    Image.open(dataset / train["photo"]).save(tmp_path / "again.jpg", quality=80)
    Image.open(tmp_path / "again.jpg").save(dataset / test["photo"])
    fault(dataset, "look the same", test["id"], train["id"])


def test_sketches_paired_by_a_wrong_rule_are_a_fault(dataset):
    def shift(found):
        return [r | {"sketch": found[i - 5]["sketch"]} for i, r in enumerate(found)]

    rewrite(dataset, shift)
    fault(dataset, "fit other pairs' sketches")


def test_two_sketches_exchanged_are_found(tmp_path):
    source = write_pair_folders(tmp_path / "mine", 3)
    rng = np.random.default_rng(0)
    for i in range(40):  # pictures of nothing, each with its own coarse structure
        coarse = Image.fromarray(rng.integers(0, 256, (10, 8), np.uint8)).resize((200, 250))
        coarse.convert("RGB").save(source / "photos" / f"q{i}.png")
        coarse.save(source / "sketches" / f"q{i}.png")
    a, b = (source / "sketches" / f"q{i}.png" for i in (11, 30))
    first = a.read_bytes()
    a.write_bytes(b.read_bytes())
    b.write_bytes(first)
    prepare("pairs", source, tmp_path / "dataset")
    fault(tmp_path / "dataset", "q11", "q30", "exchanged")


def test_an_id_that_stands_twice_and_a_split_that_is_none_are_faults(dataset):
    rewrite(dataset, lambda found: [*found[:-1], found[0] | {"split": "tset"}])
    fault(dataset, found_id := rows(dataset)[0]["id"], "2 times")
    fault(dataset, "tset")
    assert found_id


def test_priors_of_some_pairs_only_are_a_fault_and_so_are_labels_that_are_no_parts(dataset):
    layout = np.full((250, 200), 40, np.uint8)
    (dataset / "layout").mkdir()
    Image.fromarray(layout).save(dataset / "layout" / "a.png")
    rewrite(dataset, lambda found: [found[0] | {"layout": "layout/a.png"}, *found[1:]])
    fault(dataset, "layout", f"{COUNT - 1} pairs have none")
    fault(dataset, "no parts")


def test_a_sketch_of_another_size_is_a_fault(dataset):
    row = of_split(dataset, "train")
    Image.fromarray(draw_pair(0, (100, 125))[1]).save(dataset / row["sketch"])
    fault(dataset, row["id"], "100x125")


def test_a_draw_of_ones_own_is_noted_and_more_pairs_than_the_protocol_has_are_a_fault(tmp_path):
    source = write_pair_folders(tmp_path / "cufs", 2)
    lines = ["subset,split,photo,sketch,id"]
    lines += [f"AR,test,photos/p{i:03d}.png,sketches/p{i:03d}.png,{id}" for i, id in enumerate((2, 3))]
    (source / "pairs.csv").write_text("\n".join(lines))
    draw = tmp_path / "mine.txt"
    draw.write_text("AR test 2 3\n")
    prepare("cufs", Source(source, draw=draw), tmp_path / "dataset")
    found = check(tmp_path / "dataset")
    assert "not the published draw (1 pairs differ, AR 3 among them)" in found.facts["draw"]
    assert not any("the protocol has" in line for line in found.faults)
    about = json.loads((tmp_path / "dataset" / "dataset.json").read_text())
    about["expected"] = [["AR", "test", 1]]
    (tmp_path / "dataset" / "dataset.json").write_text(json.dumps(about))
    fault(tmp_path / "dataset", "AR test: 2 pairs, where the protocol has 1")


def test_faces_off_their_frame_are_a_fault(portrait, tmp_path):
    from silverpoint.data.points import detect_points
    from silverpoint.faces.align import CUFS, align
    from silverpoint.image import read_image

    image = read_image(portrait)
    aligned, _ = align(image, np.array(detect_points(image)))
    source = tmp_path / "mine"
    for folder in ("photos", "sketches"):
        (source / folder).mkdir(parents=True)
        Image.fromarray(aligned).save(source / folder / "a.png")
    eyes = CUFS.eyes()
    for name, shift in (("right", 0), ("wrong", 12)):
        points = tmp_path / f"{name}.csv"
        (x1, y1), (x2, y2) = eyes + np.array([shift, 0])
        points.write_text(
            f"file,left_x,left_y,right_x,right_y\na.png,{x1},{y1},{x2},{y2}\nsketches/a.png,{x1},{y1},{x2},{y2}\n"
        )
        prepare("pairs", Source(source, points=points), tmp_path / name, frame="cufs", val=0)
    right = check(tmp_path / "right")
    assert right.faults == []
    assert float(right.facts["alignment"].split("photo ")[1].split()[0]) < 2
    fault(tmp_path / "wrong", "photo", "off the frame")


def test_an_aligned_dataset_without_faces_is_a_fault(tmp_path):
    source = tmp_path / "mine"
    rng = np.random.default_rng(0)
    for folder in ("photos", "sketches"):
        (source / folder).mkdir(parents=True)
        for i in range(3):
            Image.fromarray(rng.integers(0, 256, (250, 200), np.uint8)).save(source / folder / f"{i}.png")
    points = tmp_path / "points.csv"
    lines = [f"{folder}{i}.png,75,125,125,125" for folder in ("", "sketches/") for i in range(3)]
    points.write_text("\n".join(["file,left_x,left_y,right_x,right_y", *lines]))
    prepare("pairs", Source(source, points=points), tmp_path / "dataset", frame="cufs", val=0)
    fault(tmp_path / "dataset", "3 of 3 photos show no face")
    assert not any("sketches show" in line for line in check(tmp_path / "dataset").faults)


def test_a_set_too_large_to_be_compared_by_look_says_so(sound, monkeypatch):
    from silverpoint.data import check as module

    monkeypatch.setattr(module, "COMPARISONS", 0)
    assert check(sound).facts["leaks"] == "no picture is shared between splits, by pixels alone"


@pytest.mark.parametrize("table", [None, "", "id,subset\n1,2\n", "id,subset,split,photo,sketch\n"])
def test_a_folder_that_is_no_dataset_is_refused(tmp_path, table, capsys):
    if table is not None:
        (tmp_path / "pairs.csv").write_text(table)
    with pytest.raises(DataError):
        check(tmp_path)
    assert main(["check", str(tmp_path)]) == 1
    assert "prepare" in capsys.readouterr().err
