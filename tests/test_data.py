from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import DataLoader

from drawn import draw_pair, write_pair_folders
from silverpoint.data.augment import (
    Augmentation,
    background_alone,
    change_tone,
    darken_skin,
    draw_crop,
    replace_background,
    take_crop,
)
from silverpoint.data.batches import PRIORS, Batches, still
from silverpoint.data.framing import frame, pad_to_multiple
from silverpoint.data.layout import PARTS, part_mask
from silverpoint.data.pairs import Example, StoredExample, list_split, read_rows, read_split
from silverpoint.data.paper import WHITE, clear_background, flatten_paper, press
from silverpoint.data.prepare import prepare
from silverpoint.errors import DataError


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


def test_a_split_that_is_not_there_is_named(dataset):
    with pytest.raises(DataError, match="test"):
        read_split(dataset, "test")


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
        crop = take_crop(both, draw_crop(250, 200, 96, Augmentation(), torch.Generator().manual_seed(seed)))
        assert crop.shape == (2, 96, 96)
        assert torch.equal(crop[0], crop[1])


@pytest.mark.parametrize(("height", "width"), [(90, 200), (200, 90)])
def test_a_crop_is_no_smaller_than_the_pictures_shorter_side_lets_it_be(height, width):
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        crop = draw_crop(height, width, 96, Augmentation(rotation=0), generator)
        assert crop.size / crop.scale <= 90


def test_without_augmentation_a_crop_is_the_picture_itself():
    image = torch.rand(3, 64, 64)
    crop = take_crop(image, draw_crop(64, 64, 64, Augmentation.none(), torch.Generator().manual_seed(0)))
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


def test_style_ink_presses_the_sketches_of_that_style_alone():
    plain, pressed = batches(batch_size=6), batches(batch_size=6, style_ink={"a": 0.5})
    for step in range(3):
        before, after = plain.batch(step), pressed.batch(step)
        assert torch.equal(before.photo, after.photo)
        changed = (after.sketch - before.sketch).flatten(1)
        for name, change in zip(before.ids, changed, strict=True):
            if int(name[1]) % 2 == 0:  # of style a
                assert float(change.mean()) < -0.01
            else:
                assert not change.any()


@given(power=st.floats(0.2, 5))
@settings(max_examples=40, deadline=None)
def test_pressing_keeps_black_white_and_the_order_of_greys(power):
    greys = np.arange(256, dtype=np.uint8)[None]
    pressed = press(greys, power)[0].astype(int)
    assert pressed[0] == 0
    assert (pressed[WHITE:] == greys[0, WHITE:]).all()
    assert (np.diff(pressed) >= 0).all()
    assert ((pressed <= greys) if power <= 1 else (pressed >= greys)).all()
    ink = (1 - 100 / WHITE) ** power
    assert abs(pressed[100] - WHITE * (1 - ink)) <= 0.5


def test_pressing_with_power_one_changes_nothing():
    greys = np.arange(256, dtype=np.uint8)[None]
    assert np.array_equal(press(greys, 1.0), greys)


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


def with_priors(seed, size=(200, 250)):
    """An example whose priors are functions of its pixels, so that it shows when they part from them."""
    photo, sketch = draw_pair(seed, size)
    layouts = [(image // 22).clip(0, 11).astype(np.uint8) for image in (photo[..., 0], sketch)]
    return Example(f"e{seed}", "s", "a", photo, sketch, photo[..., 0], layouts[0], sketch, layouts[1])


MOVED = Augmentation(tone=0.0, background=0.0, skin=0.0, shift=9.0)


@pytest.mark.parametrize("framing", ["crop", "pad256", "resize256", "resize286"])
def test_priors_move_with_what_they_were_made_from(framing):
    examples = [with_priors(i) for i in range(2)]
    made = Batches(
        examples,
        ["a"],
        batch_size=2,
        crop_size=96,
        augmentation=MOVED,
        framing=framing,
        priors=PRIORS,
    )
    batch = made.batch(0)
    side = 96 if framing == "crop" else 256
    assert batch.photo.shape == (2, 3, side, side)
    assert batch.priors["saliency"].shape == (2, 1, side, side)
    assert batch.priors["sketch_layout"].shape == (2, 12, side, side)
    red, grey = (batch.photo[:, :1] + 1) / 2, (batch.sketch + 1) / 2
    torch.testing.assert_close(batch.priors["saliency"], red, atol=1e-6, rtol=0)
    torch.testing.assert_close(batch.priors["sketch_saliency"], grey, atol=1e-6, rtol=0)
    for name, image in (("layout", red), ("sketch_layout", grey)):
        layout = batch.priors[name]
        assert torch.equal(layout.sum(1), torch.ones(2, side, side))  # labels stay labels
        expected = (image[:, 0] * 255 // 22).clamp(0, 11)
        assert (layout.argmax(1) == expected).float().mean() > 0.85  # all but the edges, where pixels mix


def test_asking_for_no_priors_changes_no_draw():
    options = {"batch_size": 2, "crop_size": 96, "augmentation": Augmentation()}
    examples = [with_priors(i) for i in range(3)]
    plain, rich = (Batches(examples, ["a"], **options, priors=p).batch(1) for p in ((), PRIORS))
    assert torch.equal(plain.photo, rich.photo)
    assert torch.equal(plain.sketch, rich.sketch)


def test_the_person_is_what_saliency_or_the_layout_shows():
    saliency, layout = np.array([[0, 90, 255, 0]], np.uint8), np.array([[0, 3, 0, 11]], np.uint8)
    pair = Example("e", "a", "a", np.zeros((1, 4, 3), np.uint8), np.zeros((1, 4), np.uint8))
    assert pair.person is None
    assert replace(pair, saliency=saliency).person.tolist() == [[0, 90, 255, 0]]
    assert replace(pair, layout=layout).person.tolist() == [[0, 255, 0, 255]]
    both = replace(pair, saliency=saliency, layout=layout).person
    assert (both.dtype, both.tolist()) == (np.uint8, [[0, 255, 255, 255]])


def test_a_prior_the_dataset_lacks_is_named_with_the_way_out():
    with pytest.raises(DataError, match=r"e0: .*layout.*--priors layout"):
        batches(priors=("layout",))


def test_padding_puts_paper_or_the_edge_around_a_pair():
    options = {"batch_size": 1, "crop_size": 64, "augmentation": Augmentation.none(), "priors": PRIORS}
    for fill, corner in (("white", 1.0), ("edge", None)):
        made = Batches([with_priors(1)], ["a"], framing="pad256", fill=fill, **options).batch(0)
        photo = torch.from_numpy(draw_pair(1)[0]).permute(2, 0, 1).float() / 127.5 - 1
        torch.testing.assert_close(made.photo[0, :, 3:253, 28:228], photo, atol=1e-6, rtol=0)
        below = made.photo[0, :, 255, 128]
        torch.testing.assert_close(below, photo[:, 249, 100] if corner is None else torch.ones(3))
        if fill == "white":
            assert float(made.priors["saliency"][0, 0, 255, 128]) == 0
            assert int(made.priors["layout"][0, :, 255, 128].argmax()) == 0


def test_a_picture_too_large_to_pad_is_named():
    with pytest.raises(DataError, match=r"e0: 300x250 .*resize286"):
        Batches(
            [with_priors(0, (300, 250))],
            ["a"],
            batch_size=1,
            crop_size=64,
            augmentation=Augmentation.none(),
            framing="pad256",
        )


@pytest.mark.parametrize("framing", ["crop", "pad256", "resize256", "resize286"])
def test_synthesis_sees_the_example_and_finds_the_way_back(framing):
    example = with_priors(2)
    batch, undo = still(example, ["z", "a"], priors=PRIORS, framing=framing, fill="white", multiple=16)
    assert batch.style.tolist() == [[0, 1]]
    assert all(batch.priors[name].shape[2:] == batch.photo.shape[2:] for name in PRIORS)
    assert batch.photo.shape[2:] == ((256, 208) if framing == "crop" else (256, 256))
    back = ((undo(batch.photo)[0] + 1) * 127.5).permute(1, 2, 0).numpy()
    difference = np.abs(back - example.photo)
    assert back.shape == example.photo.shape
    assert difference.mean() < 2 if framing.startswith("resize") else difference.max() < 1e-3


@given(
    h=st.integers(20, 300),
    w=st.integers(20, 300),
    framing=st.sampled_from(["crop", "pad256", "resize256", "resize286"]),
    where=st.tuples(st.floats(0.2, 0.8), st.floats(0.2, 0.8)),
)
@settings(max_examples=30, deadline=None)
def test_a_point_comes_back_to_its_place_through_every_framing(h, w, framing, where):
    y, x = where[0] * (h - 1), where[1] * (w - 1)
    rows, columns = torch.arange(h)[:, None], torch.arange(w)[None]
    blob = torch.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * 2.5**2))
    framed, undo = frame(blob[None, None], framing, 16, value=0.0)
    back = undo(framed)[0, 0]
    assert back.shape == (h, w)
    centre = [float((back * axis).sum() / back.sum()) for axis in (rows, columns)]
    start = [float((blob * axis).sum() / blob.sum()) for axis in (rows, columns)]
    assert np.abs(np.subtract(centre, start)).max() < 0.5


def plain_sketches(count=8):
    """Sketches that a crop of any place tells apart."""
    return [
        Example(f"u{i}", "s", "z", draw_pair(0)[0], np.full((250, 200), 20 * i, np.uint8))
        for i in range(count)
    ]


def order_of_unpaired(*ranks, draws=16):
    seen = []
    for step in range(draws // len(ranks)):
        for one in ranks:
            unpaired = one.batch(step).unpaired
            assert unpaired.shape == (1, 1, 64, 64)
            seen.append(round(float(unpaired.mean() + 1) * 127.5 / 20))
    return seen


def test_unpaired_sketches_all_come_before_any_comes_again():
    others = plain_sketches()
    seen = order_of_unpaired(*(batches(batch_size=1, unpaired=others, rank=r, ranks=2) for r in range(2)))
    assert sorted(seen[:8]) == sorted(seen[8:]) == list(range(8))
    assert batches().batch(0).unpaired is None
    assert torch.equal(batches(unpaired=others).batch(0).photo, batches().batch(0).photo)


def test_unpaired_sketches_come_in_an_order_of_their_own():
    """Another one each turn and under each seed, whatever the pairs are."""

    def order(seed=0, pairs=6):
        made = Batches(
            examples(pairs),
            ["a", "b"],
            batch_size=1,
            crop_size=64,
            augmentation=Augmentation(),
            seed=seed,
            unpaired=plain_sketches(),
        )
        return order_of_unpaired(made)

    first = order()
    assert first[:8] != first[8:]
    assert list(range(8)) not in (first[:8], first[8:])
    assert order() == order(pairs=3) == first
    assert order(seed=1)[:8] != first[:8]


def test_the_photos_of_unpaired_sketches_are_never_read_and_few_sketches_stay_in_memory(
    dataset, monkeypatch, tmp_path
):
    from silverpoint.data import batches as module

    stored = list_split(dataset, "train")[:3]
    blind = [StoredExample(dataset, {**e.row, "photo": "photos/gone.png"}) for e in stored]
    expected = [batches(unpaired=stored).batch(step).unpaired for step in range(3)]
    for memory, kept in ((4 * 3 * 250 * 200, True), (4 * 3 * 250 * 200 - 1, False)):
        monkeypatch.setattr(module, "MEMORY", memory)
        made = batches(unpaired=blind, in_memory=False)
        assert all(isinstance(e, torch.Tensor) for e in made.unpaired) == kept
        assert all(torch.equal(made.batch(step).unpaired, e) for step, e in enumerate(expected))


@pytest.mark.parametrize(
    ("size", "changes", "fits"),
    [
        (96, {"crop_size": 96}, True),
        (96, {"crop_size": 192}, False),
        (96, {"crop_size": 256, "size_multiple": 256}, True),  # as synthesis pads it
        (96, {"crop_size": 126, "augmentation": replace(Augmentation.none(), shift=15.0)}, True),
        (96, {"crop_size": 127, "augmentation": replace(Augmentation.none(), shift=15.0)}, False),
        (98, {"crop_size": 176, "augmentation": Augmentation(scale=(0.8, 1.8))}, True),
        (96, {"crop_size": 176, "augmentation": Augmentation(scale=(0.8, 1.8))}, False),
        (96, {"crop_size": 192, "framing": "resize286"}, True),
    ],
)
def test_squares_larger_than_the_pictures_are_refused_with_the_way_out(size, changes, fits):
    options = {"batch_size": 1, "augmentation": Augmentation.none()} | changes
    make = partial(Batches, [Example("e0", "s", "a", *draw_pair(0, (size, size)))], ["a"], **options)
    if fits:
        make()
    else:
        with pytest.raises(DataError, match=r"e0: is 9\dx9\d, too small for squares .*--align face192"):
            make()


def test_unpaired_sketches_of_another_size_than_the_pairs_are_refused_where_they_are_not_scaled():
    others = [Example("u0", "s", "z", *draw_pair(0, (96, 96)))]
    with pytest.raises(DataError, match=r"u0: is 96x96, the pairs 200x250; .*same --align"):
        batches(unpaired=others)
    assert batches(unpaired=others, framing="resize286").batch(0).unpaired.shape == (2, 1, 256, 256)


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    root = tmp_path_factory.mktemp("packed")
    prepare("pairs", write_pair_folders(root / "mine", 9, (80, 90)), root / "dataset", val=0, shards=True)
    return list_split(root / "dataset", "train")


def read_from(stored, **changes):
    options = {"batch_size": 2, "crop_size": 48, "augmentation": Augmentation(), "seed": 3} | changes
    return Batches(stored, sorted({e.style for e in stored}), **options)


def assert_alike(a, b):
    assert a.ids == b.ids
    assert torch.equal(a.photo, b.photo)
    assert torch.equal(a.sketch, b.sketch)


def test_what_is_read_from_shards_each_time_is_what_memory_would_hold(packed):
    kept, streamed = read_from(packed, in_memory=True), read_from(packed, in_memory=False)
    for step in (0, 5, 2):
        assert_alike(kept.batch(step), streamed.batch(step))


def test_loaders_in_processes_of_their_own_change_nothing_and_may_begin_anywhere(packed):
    streamed = read_from(packed, in_memory=False)
    loader = DataLoader(streamed, batch_size=None, sampler=range(3, 9), num_workers=2)
    for step, batch in zip(range(3, 9), loader, strict=True):
        assert_alike(batch, read_from(packed).batch(step))


@given(
    count=st.integers(1, 40), batch_size=st.integers(1, 5), ranks=st.integers(1, 4), epoch=st.integers(0, 3)
)
@settings(max_examples=60, deadline=None)
def test_ranks_together_lose_and_double_nothing_but_a_rest_that_fills_no_batch(
    count, batch_size, ranks, epoch
):
    blank = np.zeros((32, 32, 3), np.uint8)
    some = [Example(str(i), "s", "a", blank, blank[..., 0]) for i in range(count)]
    options = {"batch_size": batch_size, "crop_size": 32, "augmentation": Augmentation.none()}
    seen, steps = [], 0
    for rank in range(ranks):
        one = Batches(some, ["a"], rank=rank, ranks=ranks, **options)
        steps = len(one)
        seen += [i for step in range(epoch * steps, (epoch + 1) * steps) for i in one[step].ids]
    assert len(seen) == steps * batch_size * ranks
    if count >= batch_size * ranks:
        assert len(set(seen)) == len(seen) > count - batch_size * ranks


def test_a_large_set_is_not_read_before_it_is_needed(packed, monkeypatch):
    from silverpoint.data import batches as module

    monkeypatch.setattr(module, "MEMORY", 0)
    assert all(isinstance(e, StoredExample) for e in read_from(packed).examples)
    monkeypatch.undo()
    assert not any(isinstance(e, StoredExample) for e in read_from(packed).examples)


@pytest.mark.parametrize("row", ["../../x,mine", "a/b,mine", "a\\b,mine", "x,..", "x,a/b"])
def test_an_id_or_subset_that_leads_elsewhere_is_refused(tmp_path, row):
    rows = ["id,subset,split,photo,sketch", "a..b,mine,test,p.png,s.png", f"{row},test,p.png,s.png"]
    (tmp_path / "pairs.csv").write_text("\n".join(rows[:2]))
    assert len(read_rows(tmp_path)) == 1
    (tmp_path / "pairs.csv").write_text("\n".join(rows))
    with pytest.raises(DataError, match=r"pairs\.csv, line 3: the (id|subset) '.*' cannot name a file"):
        read_rows(tmp_path)
