"""The validation pictures of a run, and what the yardstick says of them."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from silverpoint.data.framing import pad_to_multiple
from silverpoint.data.pairs import Example

METRICS = ("psnr", "ssim", "fsim", "lpips_alex")


@torch.no_grad()
def synthesize_examples(
    net: nn.Module, examples: Sequence[Example], styles: Sequence[str], direction: str, device: torch.device
) -> list[np.ndarray]:
    """Each example drawn in its own style: uint8 (H, W) sketches, or (H, W, 3) photos."""
    training = net.training
    net.eval()
    images = []
    for example in examples:
        source = example.photo if direction == "photo2sketch" else example.sketch[:, :, None]
        x = torch.from_numpy(source.transpose(2, 0, 1).copy())[None].to(device).float() / 127.5 - 1
        x, (rows, columns) = pad_to_multiple(x, net.size_multiple)  # type: ignore[arg-type]
        style = torch.eye(len(styles), device=device)[[styles.index(example.style)]]
        y = net(x, style)[0][:, rows, columns]
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
