"""How far apart two domains are in a network's latents: can a classifier that has never seen them tell?"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from silverpoint.nets.init import he_init
from silverpoint.nets.invnet import SLOPE, DomainNet

BATCH = 16  # of each domain
LR = 5e-4  # Adam's, falling to zero: at a constant 1e-3 some classifiers diverge, and that reads as chance


class DomainGap(NamedTuple):
    """What a fresh classifier says of held-out latents, the mean of both domains, so that their sizes do not count."""

    accuracy: float  # chance is 0.5
    cross_entropy: float  # nats, chance is log 2 = 0.693; falls on where the accuracy is 1 already


def domain_gap(
    source: Tensor,
    target: Tensor,
    held_source: Tensor,
    held_target: Tensor,
    *,
    steps: int = 300,
    seed: int = 0,
) -> DomainGap:
    """How well a fresh DA-Net, trained on `source` and `target`, tells latents apart that were held out.

    All are (N, C, h, w). 1 - 2 |accuracy - 0.5| is the error the proxy A-distance is made of (Ben-David et al. 2007).
    Deterministic under `seed`, and leaves torch's generators as they were.
    """
    both = torch.cat([source, target])
    mean, std = both.mean((0, 2, 3), keepdim=True), both.std((0, 2, 3), keepdim=True).clamp(min=1e-6)
    source, target, held_source, held_target = (
        (x - mean) / std for x in (source, target, held_source, held_target)
    )
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.default_generator.manual_seed(seed)  # the processor's alone
        classifier = DomainNet(source.shape[1])
        he_init(classifier, SLOPE)
        classifier.to(source.device)
        optimizer = torch.optim.Adam(classifier.parameters(), lr=LR)
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0, total_iters=steps)
        labels = torch.cat([torch.zeros(BATCH, 1), torch.ones(BATCH, 1)]).to(source.device)
        for _ in range(steps):
            some_source, some_target = (x[torch.randint(len(x), (BATCH,))] for x in (source, target))
            logits = classifier(torch.cat([some_source, some_target]))
            loss = F.binary_cross_entropy_with_logits(logits, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    with torch.no_grad():
        rights = [-classifier(held_source), classifier(held_target)]  # logits of the right answer
    right = [float((logits > 0).float().mean()) for logits in rights]
    wrong = [float(-F.logsigmoid(logits).mean()) for logits in rights]
    return DomainGap(sum(right) / 2, sum(wrong) / 2)
