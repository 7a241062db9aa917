"""The validation pictures of a run, and what the yardstick says of them."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from silverpoint.data.batches import still
from silverpoint.data.pairs import Example
from silverpoint.errors import DataError
from silverpoint.methods.method import Method, source_priors

METRICS = ("psnr", "ssim", "fsim", "lpips_alex")


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

    In its own style, or in `style`. Raises DataError for a style the method was not trained on, and for a missing
    prior.
    """
    training = net.training
    net.eval()
    images = []
    for example in examples:
        wanted = style or example.style
        if wanted not in method.styles:
            known = ", ".join(method.styles)
            raise DataError(f"{example.id}: the run knows no style {wanted!r}; choose a --style of {known}")
        batch, undo = still(
            replace(example, style=wanted),
            method.styles,
            priors=source_priors(net, direction),
            framing=method.settings.framing,
            fill=method.settings.fill,
            multiple=net.size_multiple,  # type: ignore[arg-type]
        )
        batch = batch.to(device)
        source = batch.photo if direction == "photo2sketch" else batch.sketch
        y = undo(net(source, batch.style, *batch.priors.values()))[0]
        y = ((y.float().clamp(-1, 1) + 1) * 127.5).round().byte().cpu().numpy()
        images.append(y[0] if len(y) == 1 else y.transpose(1, 2, 0))
    net.train(training)
    return images


def validate(examples: Sequence[Example], fakes: Sequence[np.ndarray], direction: str) -> dict[str, float]:
    """Mean metrics over the examples, each at its own size; images of unlike sizes are scored in groups."""
    from silverpoint.metrics import score

    groups: dict[tuple[int, ...], list[int]] = {}
    for i, fake in enumerate(fakes):
        groups.setdefault(fake.shape, []).append(i)
    totals: dict[str, float] = {}
    for members in groups.values():
        group = [fakes[i] for i in members]
        reals = [examples[i].sketch if direction == "photo2sketch" else examples[i].photo for i in members]
        found = score(group, reals, geometry="native", metrics=METRICS)
        for name in METRICS:
            if found[name] is not None:
                totals[name] = totals.get(name, 0.0) + found[name] * len(members) / len(examples)
    return totals
