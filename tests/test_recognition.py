"""Ranks, verification and NLDA worked by hand and by independent routes; embedders as an interface."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter
from scipy.linalg import null_space

from drawn import draw_pair
from silverpoint.assets import ASSETS, cache_dir
from silverpoint.faces.align import align, apply, similarity, warp
from silverpoint.faces.detect import detect
from silverpoint.nets.facenet import FaceNet
from silverpoint.nets.lightcnn import LightCNN, MaxFeatureMap
from silverpoint.recognition import (
    Embedder,
    cmc,
    load_embedder,
    nlda,
    nlda_of_gram,
    pixel_gram,
    rank_rate,
    ranks,
    similarities,
    verification_rate,
)
from silverpoint.recognition.embedders import ARCFACE, FACE

# --- ranks


def test_ranks_of_a_hand_worked_table() -> None:
    scores = [
        [0.9, 0.1, 0.2],  # its own is first
        [0.8, 0.7, 0.1],  # one is above it
        [0.6, 0.5, 0.4],  # both are
    ]
    found = ranks(scores)
    assert found.tolist() == [1, 2, 3]
    assert rank_rate(found) == pytest.approx(1 / 3)
    assert rank_rate(found, 2) == pytest.approx(2 / 3)
    np.testing.assert_allclose(cmc(found, 3), [1 / 3, 2 / 3, 1])
    assert ranks(np.array(scores).T).tolist() == [1, 1, 1]  # the other direction


def test_a_mate_may_stand_anywhere_in_a_larger_gallery() -> None:
    scores = [[0.1, 0.9, 0.5, 0.2], [0.9, 0.1, 0.5, 0.6]]
    assert ranks(scores, mates=[2, 3]).tolist() == [2, 2]
    with pytest.raises(ValueError, match="do not hold a mate"):
        ranks(scores, mates=[2, 4])
    with pytest.raises(ValueError, match="do not hold a mate"):
        ranks(np.zeros((3, 2)))


def test_a_gallery_of_one_picture_repeated_finds_nobody() -> None:
    assert ranks(np.ones((4, 4))).tolist() == [4] * 4


def test_cosine_is_blind_to_length_and_zero_is_like_nothing() -> None:
    found = similarities([[3.0, 0.0], [0.0, 0.0]], [[1.0, 0.0], [1.0, 1.0]])
    np.testing.assert_allclose(found, [[1, 2**-0.5], [0, 0]], atol=1e-12)


@given(n=st.integers(2, 30), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_cmc_rises_to_one_whatever_the_scores(n: int, seed: int) -> None:
    scores = np.random.default_rng(seed).permutation(n * n).reshape(n, n)  # no two near enough to be a tie
    found = ranks(scores)
    curve = cmc(found, n)
    assert (np.diff(curve) >= 0).all()
    assert curve[-1] == 1
    # by sorting, independently
    order = np.argsort(-scores, axis=1)
    np.testing.assert_array_equal(found, [list(row).index(i) + 1 for i, row in enumerate(order)])
    order = np.random.default_rng(seed + 1).permutation(n)  # people renumbered
    assert sorted(ranks(scores[np.ix_(order, order)])) == sorted(found)


# --- verification


def test_verification_at_a_threshold_worked_by_hand() -> None:
    impostors = np.arange(100) / 100  # .00 ... .99
    found = verification_rate([0.5, 0.95, 0.971, 1.0], impostors, false_accept_rate=0.03)
    assert found.threshold == pytest.approx(0.96)  # .97, .98, .99 pass: 3 of 100
    assert found.false_accepts == pytest.approx(0.03)
    assert found.rate == pytest.approx(0.5)
    assert found.impostors == 100


@given(seed=st.integers(0, 200), rate=st.sampled_from([0.01, 0.02, 0.1, 0.5]), steps=st.integers(2, 400))
@settings(max_examples=40, deadline=None)
def test_no_more_impostors_pass_than_asked_even_when_scores_tie(seed: int, rate: float, steps: int) -> None:
    rng = np.random.default_rng(seed)
    impostors, genuine = (np.round(rng.random(n) * steps) / steps for n in (200, 50))
    found = verification_rate(genuine, impostors, rate)
    assert found.false_accepts <= rate
    # the next lower score as the threshold would let too many through
    lower = impostors[impostors < found.threshold]
    if len(lower):
        assert (impostors > lower.max()).mean() > rate
    assert verification_rate(genuine + 1, impostors, rate).rate >= found.rate


def test_a_rate_that_so_few_impostors_cannot_tell_is_an_error() -> None:
    with pytest.raises(ValueError, match="needs at least 1000 impostor pairs, there are 90"):
        verification_rate(np.ones(10), np.zeros(90), 1e-3)
    assert verification_rate(np.ones(10), np.zeros(1000), 1e-3).rate == 1
    with pytest.raises(ValueError, match="between 0 and 1"):
        verification_rate([1], [0], 0)


# --- NLDA


def nlda_in_the_plane_of_pixels(
    fake: np.ndarray, real: np.ndarray, train: np.ndarray, test: np.ndarray
) -> np.ndarray:
    """The field's script step by step on the vectors themselves: PCA, null space of S_w, eigenvectors of S_b."""
    samples = np.concatenate([real[train], fake[train]])
    mean = samples.mean(0)
    _, spread, axes = np.linalg.svd(samples - mean, full_matrices=False)
    pca = axes[spread > 1e-9 * spread[0]]
    reduced = samples @ pca.T
    count = len(train)
    class_means = (reduced[:count] + reduced[count:]) / 2
    centred = np.concatenate([reduced[:count] - class_means, reduced[count:] - class_means])
    within = centred.T @ centred
    null = null_space(within, rcond=1e-9)
    spread_means = (class_means - class_means.mean(0)) @ null
    _, vectors = np.linalg.eigh(spread_means.T @ spread_means)
    projection = pca.T @ null @ vectors[:, ::-1]
    curve = []
    for dimensions in range(1, count):
        probes, gallery = (side[test] @ projection[:, :dimensions] for side in (real, fake))
        nearest = ((probes[:, None] - gallery[None]) ** 2).sum(2).argmin(1)
        curve.append((nearest == np.arange(len(test))).mean())
    return np.array(curve)


def made_up_people(n: int, pixels: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Each person a pattern; fakes in another hand, and noisy."""
    rng = np.random.default_rng(seed)
    person, hand = rng.normal(128, 30, (n, pixels)), rng.normal(0, 25, pixels)
    real = person + rng.normal(0, 18, (n, pixels))
    fake = person + hand + rng.normal(0, 18, (n, pixels))
    return fake.clip(0, 255).astype(np.uint8), real.clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize(("n", "train", "pixels"), [(16, 8, 60), (20, 6, 40), (15, 9, 120)])
def test_nlda_agrees_with_the_vectors_themselves(n: int, train: int, pixels: int) -> None:
    fake, real = made_up_people(n, pixels, seed=n)
    found = nlda(fake, real, train=train, repeats=4, seed=5)
    rng, curves = np.random.default_rng(5), []
    for _ in range(4):
        order = rng.permutation(n)
        curves.append(
            nlda_in_the_plane_of_pixels(fake.astype(float), real.astype(float), order[:train], order[train:])
        )
    expected = np.mean(curves, axis=0)
    np.testing.assert_allclose(found.curve, expected, atol=1e-12)
    assert found.accuracy == expected.max()
    assert found.dimensions == expected.argmax() + 1
    assert found.mean_of_best == pytest.approx(np.max(curves, axis=1).mean())
    assert 0 < found.accuracy < 1 or pixels == 120


def test_nlda_ignores_what_differs_within_a_person() -> None:
    """Three people are told by one pixel; a pixel that differs between hands, by far more, is projected away."""
    person = np.array([0, 40, 80, 120, 160, 200])
    fake = np.stack([person, np.full(6, 250), np.arange(6) * 0], axis=1).astype(np.uint8)
    real = np.stack([person, np.full(6, 10), np.arange(6) * 0], axis=1).astype(np.uint8)
    found = nlda(fake, real, train=3, repeats=10)
    assert found.accuracy == 1
    assert found.curve.shape == (2,)


def test_nlda_of_copies_is_perfect_and_of_one_face_for_all_is_nothing() -> None:
    _, real = made_up_people(12, 50, seed=1)
    assert nlda(real, real, repeats=5).accuracy == 1
    assert nlda(np.repeat(real[:1], 12, axis=0), real, repeats=5).accuracy < 0.2


def test_nlda_is_the_same_from_the_same_seed_and_at_another_brightness() -> None:
    fake, real = made_up_people(14, 60, seed=2)
    once = nlda(fake, real, repeats=3, seed=7)
    np.testing.assert_array_equal(once.curve, nlda(fake, real, repeats=3, seed=7).curve)
    gram = pixel_gram(fake.astype(float) + 1000, real.astype(float) + 1000)
    np.testing.assert_allclose(nlda_of_gram(gram, repeats=3, seed=7).curve, once.curve, atol=1e-12)


def test_pixel_gram_is_exact_and_puts_the_reals_first() -> None:
    fake, real = made_up_people(3, 20_000, seed=3)
    rows = np.concatenate([real, fake]).astype(np.int64)
    np.testing.assert_array_equal(pixel_gram(fake, real), rows @ rows.T)


def test_too_few_people_for_nlda_is_an_error() -> None:
    fake, real = made_up_people(3, 20, seed=0)
    with pytest.raises(ValueError, match="NLDA needs 2 identities"):
        nlda(fake, real)


# --- embedders


def test_the_transform_of_each_network_meets_its_template() -> None:
    """The mean face's points land on ArcFace's within a pixel and a half of 112, and eyes stay level."""
    landed = apply(similarity(FACE, ARCFACE), FACE)
    assert np.abs(landed - ARCFACE).max() < 2.5
    assert abs(landed[0, 1] - landed[1, 1]) < 0.5


def test_an_embedder_sees_grey_squares_and_gives_unit_vectors() -> None:
    seen = []

    def network(squares: np.ndarray) -> np.ndarray:
        seen.append(squares)
        return squares.reshape(len(squares), -1)[:, :7].astype(float)

    matrix = similarity(FACE, ARCFACE)
    embed = Embedder("tiny", "sface", 112, matrix, network)
    rng = np.random.default_rng(0)
    colour = rng.integers(1, 255, (3, 250, 200, 3), np.uint8)
    found = embed(list(colour), batch=2)
    assert found.shape == (3, 7)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-6)
    assert [len(squares) for squares in seen] == [2, 1]
    grey = np.asarray(Image.fromarray(colour[0]).convert("L"))
    np.testing.assert_array_equal(seen[0][0], warp(grey, matrix, (112, 112)))
    assert embed.licence == "Apache-2.0"
    assert embed([]).shape[0] == 0
    with pytest.raises(ValueError, match="200x250, not 200x200"):
        embed([np.zeros((200, 200), np.uint8)])


def test_unknown_embedders_are_named() -> None:
    with pytest.raises(ValueError, match="there are lightcnn, sface, facenet, w600k"):
        load_embedder("oracle")


def test_max_feature_map_takes_the_greater_half() -> None:
    layer = MaxFeatureMap(1, 1)
    with torch.no_grad():
        layer.filter.weight.zero_()
        layer.filter.weight[0, 0, 1, 1] = 1.0
        layer.filter.weight[1, 0, 1, 1] = -2.0
        layer.filter.bias.zero_()
    x = torch.tensor([[[[3.0, -4.0], [0.5, -0.5]]]])
    assert torch.equal(layer(x), torch.tensor([[[[3.0, 8.0], [0.5, 1.0]]]]))


def test_the_networks_have_the_published_sizes() -> None:
    assert sum(p.numel() for p in LightCNN().parameters()) == 10_345_600
    net = FaceNet()
    assert net(torch.zeros(2, 3, 160, 160)).shape == (2, 128)
    assert net.training is False


def missing(name: str) -> bool:
    return not (cache_dir() / ASSETS[name].filename).exists()


@pytest.mark.parametrize(
    ("name", "asset"),
    [("lightcnn", "lightcnn"), ("sface", "sface"), ("facenet", "facenet128"), ("w600k", "w600k")],
)
def test_the_published_weights_know_a_face_from_others(name: str, asset: str, portrait: Path) -> None:
    """A photograph is nearer to a blurred, brighter copy of itself than to a made-up face."""
    if missing(asset):
        pytest.skip(f"not in the cache: {asset}")
    with Image.open(portrait) as file:
        photo = file.convert("RGB")
    one, _ = align(np.asarray(photo), detect(np.asarray(photo))[0])
    same = np.asarray(Image.fromarray(one).filter(ImageFilter.GaussianBlur(1)).point(lambda v: v * 0.8 + 40))
    embed = load_embedder(name)
    assert embed.licence
    found = similarities(embed([one]), embed([same, draw_pair(0)[0]]))[0]
    assert found[0] > 0.6
    assert found[0] > found[1] + 0.3
