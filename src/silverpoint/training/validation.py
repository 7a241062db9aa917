"""The validation pictures of a run, and what the yardstick says of them."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from silverpoint.data.batches import still
from silverpoint.data.pairs import Example
from silverpoint.data.priors import completed
from silverpoint.errors import DataError, UsageError
from silverpoint.methods.method import Method, source_priors
from silverpoint.synthesis.model import BORDER
from silverpoint.training.options import METRICS

LOWER_IS_BETTER = tuple(name for name in METRICS if name.startswith("lpips"))


@torch.no_grad()
def synthesize_examples(
    method: Method,
    net: nn.Module,
    examples: Sequence[Example],
    direction: str,
    device: torch.device,
    style: str | None = None,
) -> list[np.ndarray]:
    """Each example drawn by a synthesizer of `method`: uint8 (H, W) sketches, or (H, W, 3) photos.

    In its own style, in `style`, or in the only one a method has; one without styles draws examples of any. A prior
    that an example lacks is made of its picture. Raises UsageError for a `style` the method was not trained on,
    DataError for such an example, AssetError when the network of a prior cannot be had.
    """
    training = net.training
    net.eval()
    known, priors, images = ", ".join(method.styles), source_priors(net, direction), []
    # As the user's wing draws: the zero padding within a local network falls on what is cut off again.
    border = BORDER if getattr(net, "receptive_margin", None) else 0
    if style and style not in method.styles:
        raise UsageError(f"the run knows no style {style!r}; choose a --style of {known}")
    for example in examples:
        wanted = style or example.style
        if wanted not in method.styles and (len(method.styles) == 1 or not method.styled):
            wanted = method.styles[0]
        if wanted not in method.styles:
            raise DataError(f"{example.id}: the run knows no style {wanted!r}; choose a --style of {known}")
        batch, undo = still(
            replace(completed(example, priors), style=wanted),
            method.styles,
            priors=priors,
            framing=method.settings.framing,
            fill=method.settings.fill,
            multiple=net.size_multiple,  # type: ignore[arg-type]
            border=border,
        )
        batch = batch.to(device)
        source = batch.photo if direction == "photo2sketch" else batch.sketch
        image = _bytes(undo(net(source, batch.style, *batch.priors.values()))[0])
        images.append(image[:, :, 0] if image.shape[2] == 1 else image)
    net.train(training)
    return images


@torch.no_grad()
def inspect_examples(
    method: Method, examples: Sequence[Example], device: torch.device
) -> tuple[dict[str, float], list[list[np.ndarray]]]:
    """What the method's `inspect` says of the examples: sums of figures by name, and rows of pictures.

    A row holds one uint8 (H, W, 3) per example.
    """
    if type(method).inspect is Method.inspect:
        return {}, []
    method.eval()
    figures: dict[str, float] = {}
    columns = []
    for example in examples:
        batch, undo = still(
            example,
            method.styles,
            priors=method.priors,
            framing=method.settings.framing,
            fill=method.settings.fill,
            multiple=32,
        )
        found, pictures = method.inspect(batch.to(device))
        for name, value in found.items():
            figures[name] = figures.get(name, 0.0) + value
        columns.append([_bytes(undo(picture)[0]) for picture in pictures])
    method.train()
    return figures, [list(row) for row in zip(*columns, strict=True)]


def _bytes(image: torch.Tensor) -> np.ndarray:
    """(C, H, W) in [-1, 1] -> (H, W, C) uint8."""
    return ((image.float().clamp(-1, 1) + 1) * 127.5).round().byte().cpu().numpy().transpose(1, 2, 0)


def validate(
    examples: Sequence[Example], fakes: Sequence[np.ndarray], direction: str, device: torch.device
) -> tuple[dict[str, float], dict[str, str]]:
    """Sums of the metrics over the examples, each at its own size; and why a metric is missing, by its name."""
    from silverpoint.metrics import measure

    reals = [e.sketch if direction == "photo2sketch" else e.photo for e in examples]
    found = measure(fakes, reals, geometry="native", metrics=METRICS, device=device)
    sums = {name: float(values.sum()) for name, values in found.per_image.items()}
    return sums, found.reasons
