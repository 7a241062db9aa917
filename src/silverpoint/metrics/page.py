"""A comparison as one HTML page that needs nothing beside it: tables, curves and pictures inside."""

import base64
import io
from collections.abc import Sequence
from dataclasses import replace
from html import escape
from importlib.resources import files
from typing import Any

import numpy as np
from PIL import Image

from silverpoint import __version__
from silverpoint.assets import ASSETS
from silverpoint.metrics.bootstrap import Interval
from silverpoint.metrics.compare import Comparison
from silverpoint.metrics.published import ELSEWHERE, PublishedRow, published
from silverpoint.recognition import EMBEDDERS
from silverpoint.scores import HEADINGS, HIGHER_IS_BETTER, IN_PERCENT

RIVALS = {
    "input": "the input as it is",
    "nearest": "nearest in training: another person",
    "mean": "mean of training, one for all",
    "blurred": "the real one, blurred",
}
GALLERIES = {
    "real_to_fake": "Real images looked up among synthesised ones",
    "fake_to_real": "Synthesised images looked up among real ones",
    "fake_to_input": "Synthesised images looked up among the inputs",
}
# Okabe and Ito's colours, told apart with any colour vision, the yellow left out
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
DASHES = ("", "6 3", "2 3", "8 3 2 3")


def render(comparison: Comparison, *, title: str, dataset: str, direction: str, sheet: int = 24) -> str:
    """The page. `dataset` is the protocol whose published rows are shown; `sheet` how many images."""
    metrics = comparison.options.metrics
    shown = [name for name in metrics if any(r[name] is not None for r in comparison.reports.values())]
    parts = [
        _tables(comparison, shown, dataset, direction),
        _curves(comparison),
        _sheet(comparison, sheet),
        _how(comparison, shown),
    ]
    css = files("silverpoint.metrics").joinpath("page.css").read_text(encoding="utf-8")
    names = ", ".join(comparison.reports)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{css}</style></head>\n<body>\n"
        f"<header><h1>{escape(title)}</h1>\n<p>{escape(names)}: {len(comparison.reference.names)} images, "
        f"{escape(_geometry(comparison))}.</p></header>\n<main>\n"
        + "\n".join(part for part in parts if part)
        + "\n</main>\n</body></html>\n"
    )


def number(metric: str, value: float | None) -> str:
    if value is None:
        return "–"
    if metric in IN_PERCENT:
        return f"{100 * value:.1f}"
    if metric == "kid":
        return f"{1000 * value:.1f}"
    return f"{value:.2f}" if metric in ("psnr", "fid") else f"{value:.4f}"


def _geometry(comparison: Comparison) -> str:
    options = comparison.options
    margin = f" on {options.fill:g}" if options.geometry == "padded256" else ""
    return f"geometry {options.geometry}{margin}, {'colour' if options.colour else 'grey'}"


# --- tables


def _tables(comparison: Comparison, metrics: Sequence[str], dataset: str, direction: str) -> str:
    found = [_table(comparison, metrics, part, dataset, direction) for part in comparison.sets()]
    note = (
        "Bold: the best of those measured here. Below each number its 95 % interval over images; ≈ marks one whose "
        "paired difference to the best, Δ, includes 0. FID has no interval: it is biased, and more so for images drawn "
        "twice. Floors have learnt nothing: a number on which one of them beats a method says little about it."
    )
    return f"<section><h2>Scores</h2>\n<p>{note}</p>\n" + "\n".join(found) + "</section>"


def _table(comparison: Comparison, metrics: Sequence[str], part: str, dataset: str, direction: str) -> str:
    n = len(comparison.sets()[part])
    head = "".join(
        f"<th>{HEADINGS[m]}<span class=way>{'↑' if m in HIGHER_IS_BETTER else '↓'}</span></th>"
        for m in metrics
    )
    rows = [_method_row(comparison, method, metrics, part) for method in comparison.reports]
    groups = [f"<tbody>{''.join(rows)}</tbody>"]
    rivals, training = comparison.floors.of(part)
    floors = [_plain_row(RIVALS[name], report, metrics) for name, report in rivals.items()]
    if training:
        label = f"real training images, n = {training['n']}: the ceiling"
        floors.append(_plain_row(label, training, metrics))
    if floors:
        groups.append(_group("Floors and ceiling, measured here", floors, len(metrics), "floor"))
    figures = published(dataset, part, direction)
    if part == "all" and not comparison.reference.subsets and comparison.subset:
        own = published(dataset, comparison.subset, direction)
        whole = [row for row in figures if row not in own]
        figures = own + [replace(row, source=f"{row.source}, all of {dataset.upper()}") for row in whole]
    printed = [
        _published_row(row, metrics)
        for row in figures
        if row.values.keys() & set(metrics) or row.values.keys() <= ELSEWHERE.keys()
    ]
    if printed:
        text = "As published: other test sets, geometries and networks; not measured here and not comparable"
        groups.append(_group(text, printed, len(metrics), "published"))
    name = "All" if part == "all" else escape(part)
    return (
        f"<h3>{name}, n = {n}</h3>\n<div class=scroll><table><thead><tr><th></th>{head}</tr></thead>\n"
        + "\n".join(groups)
        + "</table></div>"
    )


def _method_row(comparison: Comparison, method: str, metrics: Sequence[str], part: str) -> str:
    report, cells = comparison.report(method, part), []
    for metric in metrics:
        text = number(metric, report[metric])
        best = comparison.best(metric, part)
        tied = best is not None and report[metric] == comparison.report(best, part)[metric]
        if tied and len(comparison.reports) > 1:
            text = f"<b>{text}</b>"
        behind = None if tied else comparison.behind(method, metric, part)
        if behind is not None and behind.low <= 0 <= behind.high:
            text = f"≈ {text}"
        if (interval := comparison.interval(method, metric, part)) is not None:
            text += f"<span class=interval>{_interval(metric, interval)}</span>"
        if behind is not None:
            text += f"<span class=interval>Δ {_interval(metric, behind)}</span>"
        cells.append(f'<td title="{escape(report["reasons"].get(metric, ""))}">{text}</td>')
    return f"<tr><th>{escape(method)}</th>{''.join(cells)}</tr>"


def _plain_row(label: str, report: dict[str, Any], metrics: Sequence[str]) -> str:
    cells = "".join(f"<td>{number(metric, report.get(metric))}</td>" for metric in metrics)
    return f"<tr><th>{escape(label)}</th>{cells}</tr>"


def _published_row(row: PublishedRow, metrics: Sequence[str]) -> str:
    """The printed values; those without a column stand under the method's name."""
    cells = "".join(f"<td>{escape(row.values.get(metric, '–'))}</td>" for metric in metrics)
    names = HEADINGS | ELSEWHERE
    others = [f"{names[metric]} {value}" for metric, value in row.values.items() if metric not in metrics]
    small = f"<span class=source>{escape('; '.join([row.source, *others]))}</span>"
    return f"<tr><th>{escape(row.method)}{small}</th>{cells}</tr>"


def _group(title: str, rows: list[str], columns: int, kind: str) -> str:
    head = f"<tr><th colspan={columns + 1} class=group><span>{escape(title)}</span></th></tr>"
    return f"<tbody class={kind}>{head}{''.join(rows)}</tbody>"


def _interval(metric: str, interval: Interval) -> str:
    return f"{number(metric, interval.low)} … {number(metric, interval.high)}"


# --- curves


def _curves(comparison: Comparison) -> str:
    charts = []
    for key, title in GALLERIES.items():
        lines = {
            name: report["identity"][key]["cmc"]
            for name, report in comparison.reports.items()
            if key in report["identity"]
        }
        ceiling = comparison.floors.real_to_input
        if key == "fake_to_input" and lines and ceiling is not None:
            lines["the real images themselves"] = ceiling["cmc"]
        if lines:
            charts.append(_chart(title, lines))
    if not charts:
        return ""
    options = comparison.options
    asset = ASSETS[EMBEDDERS[options.embedder].asset]
    note = (
        f"Cumulative match: the share of probes whose own is among the first k of a gallery of "
        f"{len(comparison.reference.names)}. Faces by {options.embedder}, {asset.licence}"
        f"{'; ' + asset.terms if asset.terms else ''}."
    )
    return (
        f"<section><h2>Who is recognised</h2>\n<p>{escape(note)}</p>\n<div class=charts>"
        + "\n".join(charts)
        + "</div></section>"
    )


def _chart(title: str, lines: dict[str, list[float]]) -> str:
    """One SVG, 360 x 250, ranks 1 ... up to 50 against per cent."""
    left, right, top, bottom, width, height = 40, 10, 10, 34, 360, 250
    ranks = max(2, max(len(line) for line in lines.values()))
    low = max(0.0, np.floor(min(min(line) for line in lines.values()) * 10 - 0.5) / 10)

    def x(rank: float) -> float:
        return left + (rank - 1) / (ranks - 1) * (width - left - right)

    def y(share: float) -> float:
        return top + (1 - share) / max(1 - low, 1e-9) * (height - top - bottom)

    drawn = [f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}">']
    for share in np.linspace(low, 1, 6):
        drawn.append(f'<path d="M{left} {y(share):.1f}H{width - right}" class="grid"/>')
        drawn.append(
            f'<text x="{left - 6}" y="{y(share) + 4:.1f}" text-anchor="end">{100 * share:.0f}</text>'
        )
    for rank in sorted({1, *range(10, ranks + 1, 10)}):
        drawn.append(f'<text x="{x(rank):.1f}" y="{height - bottom + 16}" text-anchor="middle">{rank}</text>')
    drawn.append(
        f'<text x="{(left + width - right) / 2}" y="{height - 4}" text-anchor="middle">rank k</text>'
    )
    for index, line in enumerate(lines.values()):
        points = " ".join(f"{x(rank):.1f},{y(share):.1f}" for rank, share in enumerate(line, 1))
        drawn.append(f'<polyline points="{points}" {_stroke(index)}/>')
    drawn.append("</svg>")
    legend = "".join(
        f'<li><svg viewBox="0 0 28 8" class=key><path d="M0 4H28" {_stroke(index)}/></svg>{escape(name)}, '
        f"{100 * line[0]:.1f} %</li>"
        for index, (name, line) in enumerate(lines.items())
    )
    return f"<figure><figcaption>{escape(title)}</figcaption>{''.join(drawn)}<ul>{legend}</ul></figure>"


def _stroke(index: int) -> str:
    dash = DASHES[index // len(COLOURS) % len(DASHES)]
    return f'stroke="{COLOURS[index % len(COLOURS)]}" stroke-dasharray="{dash}" class="line"'


# --- pictures


def _sheet(comparison: Comparison, count: int) -> str:
    if count < 1:
        return ""
    spread = comparison.spread()
    if spread is None:
        return "<section><h2>The images</h2>\n<p>Not shown: no number here is of one image, to choose by.</p></section>"
    metric, values = spread
    heading = HEADINGS.get(metric, "the faces' likeness to the real ones")
    several = len(comparison.reports) > 1
    order = np.argsort(-values, kind="stable") if several else np.arange(len(values))
    rows = []
    for position in order[:count]:
        name, reference = comparison.reference.names[position], comparison.reference
        cells = []
        if reference.inputs is not None:
            cells.append(_picture(reference.inputs[position], "input"))
        cells.append(_picture(reference.real[position], "real"))
        for method, fakes in comparison.fakes.items():
            value = comparison.reports[method]["images"][name].get(metric)
            cells.append(_picture(fakes[position], method, number(metric, value)))
        apart = f": {number(metric, values[position])} apart" if several else ""
        rows.append(f"<div class=row><h4>{escape(name)}{apart}</h4>{''.join(cells)}</div>")
    title = "Where they differ most" if several else "The images"
    note = f"By {heading}{', the widest apart first' if several else ''}. Its value stands under each image."
    return f"<section><h2>{title}</h2>\n<p>{note}</p>\n" + "\n".join(rows) + "</section>"


def _picture(image: np.ndarray, label: str, value: str = "") -> str:
    file = io.BytesIO()
    Image.fromarray(np.asarray(image)).save(file, "JPEG", quality=88)
    data = base64.b64encode(file.getvalue()).decode()
    height, width = image.shape[:2]
    caption = f"{escape(label)}{'<br>' + value if value else ''}"
    return (
        f'<figure><img loading="lazy" width="{width}" height="{height}" alt="{escape(label)}" '
        f'src="data:image/jpeg;base64,{data}"><figcaption>{caption}</figcaption></figure>'
    )


# --- how


def _how(comparison: Comparison, metrics: Sequence[str]) -> str:
    report = next(iter(comparison.reports.values()))
    networks = "".join(
        f"<li>{escape(name)} <code>{checksum[:16]}</code></li>"
        for name, checksum in report["networks"].items()
    )
    absent = {
        f"{HEADINGS[name]}: {reason}"
        for report in comparison.reports.values()
        for name, reason in report["reasons"].items()
        if name in comparison.options.metrics
    }
    gaps = "".join(f"<li>{escape(line)}</li>" for line in sorted(absent))
    lines = [
        f"<p>silverpoint {__version__}, {escape(_geometry(comparison))}. Every number is defined in "
        "docs/metrics.md. The pictures are the dataset's: its licence is this page's.</p>"
    ]
    if networks:
        lines.append(f"<p>Networks, by the SHA-256 of their weights:</p><ul>{networks}</ul>")
    if gaps:
        lines.append(f"<p>Not measured:</p><ul>{gaps}</ul>")
    return f"<section><h2>How</h2>\n{''.join(lines)}</section>"
