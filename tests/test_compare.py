"""Several methods on the same pairs: intervals, what is best, published rows, and the page."""

from __future__ import annotations

import argparse
import csv
import re
import sys
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter

from drawn import write_pair_folders
from silverpoint.cli import compare as command
from silverpoint.errors import DataError, UsageError
from silverpoint.faces.align import similarity
from silverpoint.metrics import Options, reference_of_split
from silverpoint.metrics.bootstrap import mean_interval
from silverpoint.metrics.compare import Comparison, compare
from silverpoint.metrics.page import render
from silverpoint.metrics.published import ELSEWHERE, SETS, published
from silverpoint.recognition import Embedder
from silverpoint.recognition.embedders import ARCFACE, FACE
from silverpoint.scores import HEADINGS

MODULE = sys.modules["silverpoint.metrics.measure"]  # the package has a function of that name
QUICK = "psnr,ssim,rank1,verification"


@pytest.fixture(autouse=True)
def faces(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network of faces that needs no download: the square's own pixels, coarsely."""

    def network(squares: np.ndarray) -> np.ndarray:
        coarse = squares[:, ::8, ::8].reshape(len(squares), -1).astype(float)
        return coarse - coarse.mean(axis=1, keepdims=True)

    embedder = Embedder("lightcnn", "lightcnn", 112, similarity(FACE, ARCFACE), network)
    monkeypatch.setattr(MODULE, "_embedder", lambda name: embedder)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Eight test pairs of two subsets and two to train, the database's name `cufs`."""
    root = write_pair_folders(tmp_path / "dataset", 10)
    rows = [
        f"p{i:03d},{('CUHK', 'AR')[i % 2]},{'test' if i < 8 else 'train'},"
        f"photos/p{i:03d}.png,sketches/p{i:03d}.png"
        for i in range(10)
    ]
    (root / "pairs.csv").write_text("\n".join(["id,subset,split,photo,sketch", *rows]) + "\n")
    (root / "dataset.json").write_text('{"protocol": "cufs"}')
    return root


@pytest.fixture
def methods(dataset: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Two folders of results: the true sketches a little blurred, and a lot."""
    folders = tmp_path / "sharp<1>", tmp_path / "soft"
    for folder, sigma in zip(folders, (0.5, 3.0), strict=True):
        folder.mkdir()
        for path in (dataset / "sketches").iterdir():
            with Image.open(path) as image:
                image.filter(ImageFilter.GaussianBlur(sigma)).save(folder / path.name)
    return folders


# --- intervals


def test_the_interval_of_a_mean_is_about_two_standard_errors() -> None:
    values = np.random.default_rng(0).normal(5, 2, 200)
    found = mean_interval(values)
    error = values.std() / len(values) ** 0.5
    assert found.value == values.mean()
    assert found.low == pytest.approx(values.mean() - 1.96 * error, abs=0.15 * error)
    assert found.high == pytest.approx(values.mean() + 1.96 * error, abs=0.15 * error)


def test_paired_differences_are_told_where_separate_intervals_are_not() -> None:
    images = np.random.default_rng(1).normal(0.5, 0.1, 100)  # some images are harder, for both alike
    ours, theirs = images + 0.01, images
    assert mean_interval(ours).low < mean_interval(theirs).high
    behind = mean_interval(theirs - ours)
    assert behind.high < 0
    np.testing.assert_allclose(behind, -0.01, atol=1e-9)


def test_an_interval_is_reproducible_and_of_one_image_a_point() -> None:
    values = np.random.default_rng(2).normal(size=30)
    assert mean_interval(values) == mean_interval(values)
    assert mean_interval(values[:1]) == (values[0], values[0], values[0])
    with pytest.raises(ValueError, match="a value per image"):
        mean_interval(np.zeros(0))


# --- published rows


def test_published_rows_say_where_they_are_printed() -> None:
    rows = {row.method: row for row in published("cufs", "CUHK", "photo2sketch")}
    assert rows["FSS"].source == "FSS 2025, Table 4"
    assert rows["FSS"].values == {"fid": "53.3347", "ssim": "0.63567", "psnr": "18.5729"}
    several = [row for row in published("cufs", "all", "photo2sketch") if row.method == "pix2pix"]
    assert {row.values.get("ssim") for row in several} >= {"0.5172", "0.4983"}  # one method, two papers
    assert published("cufs", "nobody", "photo2sketch") == []


def test_a_subset_named_as_its_dataset_is_all_of_it() -> None:
    assert published("cufsf", "CUFSF", "photo2sketch") == published("cufsf", "all", "photo2sketch") != []


def test_every_published_figure_is_printed_somewhere_as_it_stands() -> None:
    text = files("silverpoint.metrics").joinpath("published.csv").read_text()
    rows = list(csv.DictReader(text.splitlines()))
    shown = {
        (dataset, direction, row.method, metric, value)
        for dataset, direction in {(row["dataset"], row["direction"]) for row in rows}
        for subset in SETS
        for row in published(dataset, subset, direction)
        for metric, value in row.values.items()
    }
    names = ("dataset", "direction", "method", "metric", "value")
    assert {tuple(row[name] for name in names) for row in rows} == shown
    own = {row.method: row for row in published("cufsf", "all", "sketch2photo")}["DA-GAN"]
    assert own.source == "DA-GAN 2018, Table 2, hand-drawn 240 at 96x96"
    assert own.values["ssim"] == "0.410"


def test_every_published_figure_is_a_number_of_a_known_metric() -> None:
    text = files("silverpoint.metrics").joinpath("published.csv").read_text()
    rows = list(csv.DictReader(text.splitlines()))
    assert {row["metric"] for row in rows} <= HEADINGS.keys() | ELSEWHERE.keys()
    assert {row["direction"] for row in rows} == {"photo2sketch", "sketch2photo"}
    shares = [float(r["value"]) for r in rows if r["metric"].startswith(("fsim", "ssim", "lpips"))]
    assert 0 < min(shares) < max(shares) < 1
    keys = [tuple(row[name] for name in row if name != "value") for row in rows]
    assert len(set(keys)) == len(keys)


# --- the comparison


def scored(dataset: Path, methods: tuple[Path, Path], **options: Any) -> Comparison:
    reference, _ = reference_of_split(dataset)
    fakes = {
        folder.name: [np.asarray(Image.open(folder / f"{name}.png")) for name in reference.names]
        for folder in methods
    }
    settings = {"metrics": ("psnr", "ssim", "rank1", "verification"), "false_accept_rate": 0.1}
    return compare(fakes, reference, Options(**(settings | options)))


def test_the_best_is_the_sharper_and_the_other_is_surely_behind(
    dataset: Path, methods: tuple[Path, Path]
) -> None:
    found = scored(dataset, methods)
    assert found.sets().keys() == {"all", "CUHK", "AR"}
    assert found.best("ssim", "all") == found.best("psnr", "AR") == "sharp<1>"
    assert found.behind("sharp<1>", "ssim", "all") is None
    behind = found.behind("soft", "ssim", "CUHK")
    assert behind is not None
    assert behind.high < 0
    values = found.per_image("soft", "ssim", "CUHK")
    assert values is not None
    assert values.mean() == pytest.approx(found.report("soft", "CUHK")["ssim"])
    for metric in ("rank1", "verification"):
        for part in found.sets():
            values = found.per_image("soft", metric, part)
            if found.report("soft", part)[metric] is None:
                assert values is None
            else:
                assert values is not None
                assert values.mean() == pytest.approx(found.report("soft", part)[metric])
    metric, spread = found.spread() or ("", np.zeros(0))
    assert metric == "ssim"
    assert spread.shape == (8,)
    assert found.interval("soft", "fid", "all") is None


@pytest.mark.parametrize(
    ("metrics", "by"),
    [(("ms_ssim", "psnr"), "psnr"), (("ms_ssim", "rank1"), "ms_ssim"), (("rank1", "nlda"), "likeness")],
)
def test_pictures_are_chosen_by_any_number_an_image_has(
    dataset: Path, methods: tuple[Path, Path], metrics: tuple[str, ...], by: str
) -> None:
    found = scored(dataset, methods, metrics=metrics)
    name, spread = found.spread() or ("", np.zeros(0))
    assert name == by
    first = found.reference.names[0]
    values = [report["images"][first][by] for report in found.reports.values()]
    assert spread[0] == pytest.approx(max(values) - min(values))
    assert "<img" in page_of(found)


def test_a_page_without_a_number_per_image_says_why_it_has_no_pictures(
    dataset: Path, methods: tuple[Path, Path]
) -> None:
    page = page_of(scored(dataset, methods, metrics=("nlda",)))
    assert "Not shown: no number here is of one image" in page
    assert "<img" not in page
    assert "Not shown" not in page_of(scored(dataset, methods, metrics=("nlda",)), sheet=0)


def test_floors_stand_under_every_subset(dataset: Path, methods: tuple[Path, Path]) -> None:
    """Each as it is of that subset alone."""
    found = scored(dataset, methods, metrics=("psnr", "ssim"))
    page = page_of(found)
    tables = re.findall(r"<h3>(\w+), n = .*?</table>", page, re.S)
    assert tables == ["All", "CUHK", "AR"]
    for part, table in zip(("all", "CUHK", "AR"), re.findall(r"<h3>.*?</table>", page, re.S), strict=True):
        floors = found.floors.of(part)[0]
        assert floors.keys() == {"input", "nearest", "mean", "blurred"}
        expected = f"<th>the real one, blurred</th><td>{floors['blurred']['psnr']:.2f}</td>"
        assert expected in table
    assert found.floors.of("CUHK")[0]["blurred"]["psnr"] != found.floors.of("AR")[0]["blurred"]["psnr"]


def test_figures_without_a_column_stand_under_the_method(dataset: Path, methods: tuple[Path, Path]) -> None:
    found = scored(dataset, methods, metrics=("ssim",))
    text = re.sub(r"<[^>]+>", "|", page_of(found))
    assert "FSS 2025, Table 4; FID 53.3347; PSNR 18.5729|" in text
    assert re.search(r"Face\+\+ verification \d\d\.\d+", text)
    assert re.search(r"FaceNet accuracy \d", text)
    assert re.search(r"LPIPS-sq 0\.\d+", text)


def page_of(found: Comparison, sheet: int = 3) -> str:
    return render(found, title="t", dataset="cufs", direction="photo2sketch", sheet=sheet)


class Reader(HTMLParser):
    """What a page holds: its tags, its texts, and every address it names."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img", "br", "path", "polyline"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("path", "polyline"):
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_needs_nothing_beside_it(dataset: Path, methods: tuple[Path, Path]) -> None:
    page = render(
        scored(dataset, methods), title="CUFS <test>", dataset="cufs", direction="photo2sketch", sheet=3
    )
    reader = Reader()
    reader.feed(page)
    assert reader.open == []
    assert all(address.startswith("data:image/jpeg;base64,") for address in reader.addresses)
    assert len(reader.addresses) == 3 * 4  # input, real and two methods each
    assert "@import" not in page
    assert "url(" not in page
    assert "sharp<1>" in reader.text  # escaped, so it is text
    assert reader.tags.count("table") == 3
    assert reader.tags.count("polyline") == 2 + 2 + 3  # the third gallery has the real images' line
    assert "nearest in training: another person" in reader.text
    assert "FSS 2025, Table 4" in reader.text  # CUHK's rows in CUHK's table
    assert "SDGAN (biphasic), Table I" in reader.text
    body = re.search(r"<h3>All.*?</tbody>", page, re.S)
    assert body is not None
    best, other = re.findall(r"<tr><th>.*?</tr>", body[0], re.S)[-2:]
    assert "<b>" in best
    assert other.count("<b>") == other.count("<b>100.0</b>")  # of equals each is best
    assert "Δ" not in best
    assert re.search(r"<span class=interval>Δ -[\d.]+ … -[\d.]+</span>", other)


def test_pictures_are_sorted_by_how_far_apart_the_methods_are(
    dataset: Path, methods: tuple[Path, Path]
) -> None:
    found = scored(dataset, methods, metrics=("psnr", "ssim"))
    page = render(found, title="t", dataset="none", direction="photo2sketch", sheet=8)
    shown = re.findall(r"<h4>(p\d+)", page)
    _, spread = found.spread() or ("", np.zeros(0))
    assert shown == [found.reference.names[i] for i in np.argsort(-spread, kind="stable")]
    assert "Who is recognised" not in page
    assert "As published" not in page


# --- the command


def run(*argv: str) -> int:
    parser = argparse.ArgumentParser(prog="silverpoint")
    command.add_parser(parser.add_subparsers())
    args = parser.parse_args(["compare", *argv])
    status: int = args.run(args)
    return status


def test_the_command_writes_a_page_of_the_pairs_all_have(
    dataset: Path, methods: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (methods[1] / "p003.png").unlink()
    out = tmp_path / "report.html"
    arguments = [*map(str, methods), "--data", str(dataset), "--out", str(out), "--no-cache"]
    assert run(*arguments, "--metrics", QUICK, "--sheet", "2") == 0
    printed = capsys.readouterr()
    assert "7 images, geometry 200x250, grey" in out.read_text()
    assert "soft lacks 1 of 8: p003" in printed.err
    assert "verification" not in printed.out
    assert printed.out.splitlines()[0] == "geometry 200x250, grey"
    assert printed.out.splitlines()[2].split()[:2] == ["sharp<1>", "7"]
    assert run(*arguments, "--metrics", "ssim", "--subset", "CUHK", "--no-floors") == 0
    text = out.read_text()
    assert text.count("FSS 2025, Table 4") == 8  # of one subset, `all` is that subset
    assert "FSS 2025, Table 4, all" not in text
    assert "SDGAN (biphasic), Table I, all of CUFS" in text  # printed for the whole database alone


def test_the_page_shows_each_of_two_people_of_one_id(
    dataset: Path, methods: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = (dataset / "pairs.csv").read_text()
    (dataset / "pairs.csv").write_text(table.replace("p001,AR", "p000,AR"))  # as CUHK has one already
    for folder in methods:
        for i in range(8):
            subset, name = ("CUHK", "AR")[i % 2], f"p{0 if i == 1 else i:03d}.png"
            (folder / subset).mkdir(exist_ok=True)
            (folder / f"p{i:03d}.png").rename(folder / subset / name)
    out = tmp_path / "report.html"
    arguments = [*map(str, methods), "--data", str(dataset), "--out", str(out), "--metrics", "psnr,ssim"]
    assert run(*arguments, "--no-floors") == 0
    page = out.read_text()
    assert set(re.findall(r"<h4>(\S+):", page)) >= {"CUHK/p000", "AR/p000", "p002"}
    assert " apart" in page
    sharp = re.search(r"<h4>AR/p000:.*?sharp&lt;1&gt;<br>([\d.]+)", page, re.S)
    assert sharp is not None
    assert float(sharp[1]) > 0.95  # of another person's sketch it would be far less
    (methods[0] / "AR/p000.png").write_bytes(b"no picture")
    assert run(*arguments, "--no-floors") == 1
    printed = capsys.readouterr()
    assert "AR/p000.png: is not an image" in printed.err
    assert "lacks" not in printed.err
    assert "7 pairs" in printed.out


def test_folders_of_one_name_are_told_apart(
    dataset: Path, methods: tuple[Path, Path], tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    twin = methods[1].rename(tmp_path / "other" / methods[0].name)
    out = tmp_path / "report.html"
    assert (
        run(str(methods[0]), str(twin), "--data", str(dataset), "--out", str(out), "--metrics", "psnr") == 0
    )
    assert "other/sharp&lt;1&gt;" in out.read_text()


def test_wrong_usage_is_named(dataset: Path, methods: tuple[Path, Path], tmp_path: Path) -> None:
    one, other = map(str, methods)
    good = ["--data", str(dataset), "--out", str(tmp_path / "r.html"), "--metrics", "psnr"]
    with pytest.raises(UsageError, match="is named twice"):
        run(one, one, *good)
    with pytest.raises(UsageError, match="no such folder"):
        run(one, str(tmp_path / "none"), *good)
    with pytest.raises(UsageError, match="there is no folder"):
        run(one, "--data", str(dataset), "--out", str(tmp_path / "none/r.html"))
    with pytest.raises(UsageError, match="is a folder"):
        run(one, "--data", str(dataset), "--out", str(tmp_path))
    with pytest.raises(DataError, match="no pairs with split 'val'"):
        run(one, other, *good, "--split", "val")
    assert not (tmp_path / "r.html").exists()
