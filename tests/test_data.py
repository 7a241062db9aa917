import csv
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from drawn import draw_pair, write_pair_folders
from silverpoint.data.augment import (
    Augmentation,
    background_alone,
    change_tone,
    darken_skin,
    replace_background,
    sample_crop,
)
from silverpoint.data.batches import Batches
from silverpoint.data.framing import pad_to_multiple
from silverpoint.data.layout import PARTS, part_mask
from silverpoint.data.pairs import Example, read_split
from silverpoint.data.paper import WHITE, clear_background, flatten_paper
from silverpoint.data.prepare import prepare
from silverpoint.errors import DataError, ImageError, UsageError


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    prepare("pairs", write_pair_folders(root / "mine", 10), root / "dataset", val=0.2)
    return root / "dataset"


def examples(count=6):
    return [Example(f"e{i}", "s", "ab"[i % 2], *draw_pair(i)) for i in range(count)]


def batches(seed=0, **changes):
    options = {"batch_size": 2, "crop_size": 64, "augmentation": Augmentation(), "seed": seed} | changes
    return Batches(examples(), ["a", "b"], **options)


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


def test_prepare_leaves_nothing_that_reads_as_whole_when_a_file_is_damaged(tmp_path):
    source = write_pair_folders(tmp_path / "mine", 4)
    (source / "photos" / "p002.png").write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"p002\.png"):
        prepare("pairs", source, tmp_path / "dataset")
    assert not (tmp_path / "dataset").exists()


def test_prepare_never_overwrites_a_dataset(dataset, tmp_path):
    with pytest.raises(DataError, match="already exists"):
        prepare("pairs", write_pair_folders(tmp_path / "mine", 2), dataset)


def test_a_split_that_is_not_there_is_named(dataset):
    with pytest.raises(DataError, match="test"):
        read_split(dataset, "test")


def test_cufs_rows_are_read_from_its_table(tmp_path):
    source = write_pair_folders(tmp_path / "cufs", 2)
    lines = ["subset,split,test_index,photo,sketch,id"]
    lines += [
        "CUHK,train,,photos/p000.png,sketches/p000.png,a",
        "AR,test,0,photos/p001.png,sketches/p001.png,b",
    ]
    (source / "pairs.csv").write_text("\n".join(lines))
    assert prepare("cufs", source, tmp_path / "out", val=0) == 2
    (example,) = read_split(tmp_path / "out", "test", "AR")
    assert (example.id, example.style) == ("b", "cufs")


def test_fs2k_pairs_by_number_and_keeps_the_style(tmp_path):
    photo, sketch = draw_pair(0, (250, 250))
    for folder, name, image in (
        ("photos/photo1", "image0007", photo),
        ("sketches/sketch1", "sketch0007", sketch),
    ):
        (tmp_path / "fs2k" / folder).mkdir(parents=True)
        Image.fromarray(image).save(tmp_path / "fs2k" / folder / f"{name}.png")
    annotation = [{"image_name": "photo1/image0007", "style": 2}]
    (tmp_path / "fs2k" / "anno_train.json").write_text(json.dumps(annotation))
    prepare("fs2k", tmp_path / "fs2k", tmp_path / "out", val=0)
    (example,) = read_split(tmp_path / "out", "train")
    assert (example.id, example.style) == ("photo1-0007", "fs2k3")


def test_flattening_removes_tint_and_uneven_light_and_keeps_strokes():
    _, sketch = draw_pair(1)
    y, x = np.mgrid[-1:1:250j, -1:1:200j]
    shaded = (sketch * (0.85 + 0.08 * x - 0.05 * y * y)).astype(np.uint8)
    flat = flatten_paper(shaded)
    paper = sketch == 250
    assert np.abs(flat[paper].astype(int) - WHITE).max() <= 4
    assert np.abs(flat[sketch < 100].astype(int) - sketch[sketch < 100]).max() <= 12


def test_the_background_becomes_bare_paper_and_the_person_stays():
    _, sketch = draw_pair(2)
    dirty = sketch.copy()
    dirty[:12, :12] = 0  # a scanner corner
    person = np.zeros_like(sketch)
    person[60:, 50:150] = 255
    clean = clear_background(dirty, person)
    assert clean[:12, :12].min() >= WHITE - 1
    assert np.array_equal(clean[70:, 60:140], dirty[70:, 60:140])


def test_photo_and_sketch_move_together():
    _, sketch = draw_pair(3)
    both = torch.from_numpy(np.stack([sketch, sketch])).float() / 255
    for seed in range(8):
        crop = sample_crop(both, 96, Augmentation(), torch.Generator().manual_seed(seed))
        assert crop.shape == (2, 96, 96)
        assert torch.equal(crop[0], crop[1])


def test_without_augmentation_a_crop_is_the_picture_itself():
    image = torch.rand(3, 64, 64)
    crop = sample_crop(image, 64, Augmentation.none(), torch.Generator().manual_seed(0))
    torch.testing.assert_close(crop, image, atol=1e-5, rtol=0)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_light_and_background_stay_in_range(seed):
    generator = torch.Generator().manual_seed(seed)
    photo = torch.from_numpy(draw_pair(seed % 5)[0]).permute(2, 0, 1).float() / 255
    changed = change_tone(photo, generator)
    assert changed.shape == photo.shape
    assert 0 <= float(changed.min()) <= float(changed.max()) <= 1
    placed = replace_background(photo, torch.rand(1, 250, 200), changed, generator)
    assert 0 <= float(placed.min()) <= float(placed.max()) <= 1


def test_a_background_alone_keeps_what_is_outside_and_fills_the_rest_from_it():
    photo = torch.from_numpy(draw_pair(0)[0]).permute(2, 0, 1).float() / 255
    photo[:, :, :100] = 0.25
    person = torch.zeros(1, 250, 200)
    person[:, 50:200, 60:140] = 1
    alone = background_alone(photo, person)
    assert torch.equal(alone[:, person[0] == 0], photo[:, person[0] == 0])
    torch.testing.assert_close(alone[:, 55, 62], torch.full((3,), 0.25))


def test_a_new_background_leaves_the_person_alone():
    photo = torch.from_numpy(draw_pair(0)[0]).permute(2, 0, 1).float() / 255
    person = torch.zeros(1, 250, 200)
    person[:, 50:200, 60:140] = 1
    placed = replace_background(photo, person, torch.rand(3, 80, 80), torch.Generator().manual_seed(5))
    assert torch.equal(placed[:, 50:200, 60:140], photo[:, 50:200, 60:140])
    assert not torch.allclose(placed[:, :40], photo[:, :40])


def test_darkening_takes_the_skin_and_nothing_else():
    photo = torch.full((3, 8, 8), 0.6)
    skin = torch.zeros(1, 8, 8)
    skin[:, 2:6, 2:6] = 1
    dark = darken_skin(photo, skin, torch.Generator().manual_seed(1))
    assert torch.equal(dark[:, :2], photo[:, :2])
    assert float(dark[:, 3, 3].max()) < 0.6
    assert dark[0, 3, 3] > dark[1, 3, 3] > dark[2, 3, 3]  # less of blue than of red


def test_a_layout_names_its_parts():
    layout = np.array([[0, 1], [11, 6]], np.uint8)
    assert np.array_equal(part_mask(layout, "skin", "hair"), [[0, 255], [255, 0]])
    assert len(PARTS) == 12


def test_a_prior_of_another_size_is_refused(tmp_path):
    source = write_pair_folders(tmp_path / "mine", 2)
    prepare("pairs", source, tmp_path / "dataset", val=0)
    table = tmp_path / "dataset" / "pairs.csv"
    table.write_text(table.read_text().replace(",,", ",wrong.png,"))
    Image.new("L", (10, 10)).save(tmp_path / "dataset" / "wrong.png")
    with pytest.raises(DataError, match=r"wrong\.png"):
        read_split(tmp_path / "dataset", "train")


def test_an_unknown_prior_is_refused_and_leaves_no_dataset(tmp_path):
    with pytest.raises(UsageError, match="saliency, layout"):
        prepare("pairs", write_pair_folders(tmp_path / "mine", 2), tmp_path / "dataset", priors=["depth"])
    assert not (tmp_path / "dataset").exists()


def test_a_batch_depends_on_seed_and_step_alone():
    first, again, other = batches(seed=1), batches(seed=1), batches(seed=2)
    for step in (5, 0, 3):
        a, b = first.batch(step), again.batch(step)
        assert a.ids == b.ids
        assert torch.equal(a.photo, b.photo)
        assert torch.equal(a.sketch, b.sketch)
    assert not torch.equal(first.batch(0).photo, other.batch(0).photo)


def test_batches_have_the_promised_shapes_and_ranges():
    batch = batches().batch(0)
    assert batch.photo.shape == (2, 3, 64, 64)
    assert batch.sketch.shape == (2, 1, 64, 64)
    assert torch.equal(batch.style.sum(1), torch.ones(2))
    assert float(batch.photo.min()) >= -1
    assert float(batch.photo.max()) <= 1


def test_an_epoch_shows_every_example_once():
    one = batches()
    seen = [i for step in range(one.steps_per_epoch) for i in one.batch(step).ids]
    assert sorted(seen) == sorted(e.id for e in examples())


def test_ranks_share_an_epoch_without_loss_or_doubling():
    ranks = [batches(batch_size=1, rank=r, ranks=3) for r in range(3)]
    seen = [i for one in ranks for step in range(one.steps_per_epoch) for i in one.batch(step).ids]
    assert sorted(seen) == sorted(e.id for e in examples())


def test_style_weights_change_how_often_a_style_is_drawn():
    weighted = batches(batch_size=6, style_weights={"a": 3.0})
    drawn = [i for step in range(40) for i in weighted.batch(step).ids]
    share = sum(int(i[1]) % 2 == 0 for i in drawn) / len(drawn)
    assert 0.68 < share < 0.82


@given(h=st.integers(1, 300), w=st.integers(1, 300), multiple=st.sampled_from([1, 16, 256]))
@settings(max_examples=40, deadline=None)
def test_framing_has_an_exact_inverse(h, w, multiple):
    image = torch.rand(1, 1, h, w)
    padded, inside = pad_to_multiple(image, multiple)
    assert padded.shape[-2] % multiple == padded.shape[-1] % multiple == 0
    assert torch.equal(padded[(..., *inside)], image)


def test_the_cufs_frame_lies_where_the_field_puts_it():
    _, (rows, columns) = pad_to_multiple(torch.zeros(1, 1, 250, 200), 256, value=0.0)
    assert (rows, columns) == (slice(3, 253), slice(28, 228))
