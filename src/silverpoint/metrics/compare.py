"""Several methods on the same pairs: which is best, by how much, and on which images they differ."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from silverpoint.metrics.bootstrap import Interval, mean_interval
from silverpoint.metrics.evaluate import Floors, Options, evaluate_images, measure_floors
from silverpoint.metrics.reference import Pictures, Reference
from silverpoint.scores import HIGHER_IS_BETTER

# what the contact sheet is sorted by: the first that every image has a value of
SPREAD_BY = (
    "lpips_alex",
    "lpips_vgg",
    "fsim",
    "ssim",
    "psnr",
    "ms_ssim",
    "fsimc",
    "lpips_squeeze",
    "perceptual_vgg19",
    "likeness",
)


@dataclass(frozen=True)
class Comparison:
    """Reports of `evaluate_images` by method, all against one reference."""

    reference: Reference
    options: Options
    fakes: Mapping[str, Pictures]
    reports: dict[str, dict[str, Any]]
    floors: Floors
    subset: str | None = None  # the only subset there is, where the reference is of one

    def sets(self) -> dict[str, list[int]]:
        """Positions of what is scored apart: all, and every subset where there are several."""
        return {"all": list(range(len(self.reference.names)))} | self.reference.subsets

    def report(self, method: str, part: str) -> dict[str, Any]:
        whole = self.reports[method]
        return whole if part == "all" else whole["subsets"][part]

    def best(self, metric: str, part: str) -> str | None:
        """The method with the best value; None if none has one."""
        values = {m: self.report(m, part)[metric] for m in self.reports}
        there = {method: value for method, value in values.items() if value is not None}
        if not there:
            return None
        return (max if metric in HIGHER_IS_BETTER else min)(there, key=lambda method: there[method])

    def interval(self, method: str, metric: str, part: str) -> Interval | None:
        """Of a metric that is a mean over images; KID's is 1.96 standard errors. None for the others."""
        if metric == "kid" and (report := self.report(method, part))["kid"] is not None:
            reach = 1.96 * report["kid_error"]
            return Interval(report["kid"], report["kid"] - reach, report["kid"] + reach)
        values = self.per_image(method, metric, part)
        return None if values is None else mean_interval(values)

    def behind(self, method: str, metric: str, part: str) -> Interval | None:
        """The paired interval of this method's mean less the best one's; None for the best and where there is none."""
        best = self.best(metric, part)
        if best is None or best == method:
            return None
        ours, theirs = (self.per_image(name, metric, part) for name in (method, best))
        return None if ours is None or theirs is None else mean_interval(ours - theirs)

    def per_image(self, method: str, metric: str, part: str) -> np.ndarray | None:
        """A value per image whose mean is the metric, (n,); None for a metric of the whole set or with gaps."""
        images, report = self.reports[method]["images"], self.report(method, part)
        names = [self.reference.names[position] for position in self.sets()[part]]
        if report[metric] is None:
            return None
        if metric == "rank1":
            return np.array([rank == 1 for rank in report["identity"]["real_to_fake"]["ranks"]], float)
        if metric == "verification":
            threshold = report["identity"]["verification"]["threshold"]
            return np.array([images[name]["likeness"] > threshold for name in names], float)
        values = [images[name].get(metric) for name in names]
        return None if any(value is None for value in values) else np.array(values, float)

    def spread(self) -> tuple[str, np.ndarray] | None:
        """What the methods are set apart by, of SPREAD_BY, and per image their greatest less their least value."""
        for name in SPREAD_BY:
            rows = [[row.get(name) for row in report["images"].values()] for report in self.reports.values()]
            if all(value is not None for row in rows for value in row):
                return name, np.ptp(np.array(rows, float), axis=0)
        return None


def compare(
    fakes: Mapping[str, Pictures],
    reference: Reference,
    options: Options,
    *,
    floors: bool = True,
    subset: str | None = None,
) -> Comparison:
    """Score every method's fakes, position by position, against one reference; the floors once."""
    known = measure_floors(reference, options) if floors else Floors()
    reports = {name: evaluate_images(images, reference, options, known) for name, images in fakes.items()}
    return Comparison(reference, options, fakes, reports, known, subset)
