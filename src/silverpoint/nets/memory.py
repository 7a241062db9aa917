"""The memory dictionary of MOST-Net (Ji et al. 2022, section III-B): photo features, and sketch features they mean.

Features are rows: (N, c), or (..., c) where nothing is said.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class MemoryDictionary(nn.Module):
    """`slots` pairs of a key and a value, each of `channels` numbers (Eq. 1): features (B, c, h, w) -> what is read.

    Keys and values are buffers: Eq. 6 moves them in training mode, and no gradient does. `decay` is alpha of Eq. 6,
    `temperature` divides the similarities under the softmax of Eq. 7, where the paper has none (1). With
    `restart_after` a slot whose key has not been chosen for so many updates takes one half of a busy one (0: never).
    """

    def __init__(
        self,
        slots: int,
        channels: int,
        decay: float = 0.999,
        temperature: float = 1.0,
        restart_after: int = 0,
    ) -> None:
        super().__init__()
        self.decay, self.temperature, self.restart_after = decay, temperature, restart_after
        self.register_buffer("keys", torch.randn(slots, channels))
        self.register_buffer("values", torch.randn(slots, channels))
        self.register_buffer("idle", torch.zeros(slots, dtype=torch.int64))  # updates since a key was chosen
        self.keys: Tensor
        self.values: Tensor
        self.idle: Tensor

    def forward(self, features: Tensor) -> Tensor:
        return self.read(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    def read(self, features: Tensor) -> Tensor:
        """The values of the keys that resemble the features, mixed: a row for each row."""
        # Cosines near one need more than bfloat16's three digits to be told apart.
        with torch.autocast(features.device.type, enabled=False):
            cosines = similarity(features.to(self.keys.dtype), self.keys)
            attention = torch.softmax(cosines / self.temperature, -1)  # Eq. 7
        return F.linear(attention, self.values.t())  # Eqs. 8, 9

    @torch.no_grad()
    def update(
        self,
        photo: Tensor,
        sketch: Tensor,
        key_choice: Tensor,
        value_choice: Tensor,
        reduce: Callable[[Tensor], Tensor] = lambda tensor: tensor,
    ) -> None:
        """Eq. 6 for the keys, with photo features (N, c), and for the values, with sketch features (N, c).

        The choices (N,) are each feature's slot, `similarity(...).argmax(-1)` (Eq. 5). `reduce` takes the mean of
        a tensor over the processes of a distributed run, so that all hold one memory. In eval mode nothing moves.
        """
        if not self.training:
            return
        # New tensors in the buffers' place: what was read before keeps the slots that its gradient needs.
        means, counts = self._means(photo, key_choice, reduce)
        self.keys = self._moved(self.keys, means, counts)
        self.values = self._moved(self.values, *self._means(sketch, value_choice, reduce))
        self.idle = torch.where(counts[:, 0] > 0, 0, self.idle + 1)
        if self.restart_after:
            self._restart(photo, sketch, key_choice, means, counts[:, 0], reduce)

    def _means(
        self, features: Tensor, choice: Tensor, reduce: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, Tensor]:
        """The mean (K, c) of the features that chose each slot, not a number where none did, and their count (K, 1)."""
        # A product and not index_add_, whose sums differ from run to run on a GPU.
        chose = (choice[:, None] == torch.arange(len(self.keys), device=choice.device)).to(self.keys.dtype)
        features = F.pad(features.to(self.keys.dtype), (0, 1), value=1.0)  # the ones become the counts
        sums, counts = reduce(chose.t() @ features).tensor_split([-1], dim=1)
        return sums / counts, counts

    def _moved(self, slots: Tensor, means: Tensor, counts: Tensor) -> Tensor:
        return torch.where(counts > 0, self.decay * slots + (1 - self.decay) * means, slots)  # Eq. 6

    def _restart(
        self,
        photo: Tensor,
        sketch: Tensor,
        choice: Tensor,
        means: Tensor,
        counts: Tensor,
        reduce: Callable[[Tensor], Tensor],
    ) -> None:
        """Dead slots take a half each of what chose the busiest keys, cut through the mean (Linde, Buzo & Gray 1980).

        The same places make key and value, so that photo and sketch features go on choosing alike.
        """
        direction = reduce(torch.randn_like(means[0]))  # one for all processes
        half = (photo - means[choice]) @ direction > 0
        children, shares = self._means(torch.cat([photo, sketch], 1), torch.where(half, choice, -1), reduce)
        shares = shares[:, 0]
        parts = counts.masked_fill((shares == 0) | (shares == counts), 0)  # where all features are alike
        dead = self.idle >= self.restart_after
        parent = parts.argsort(descending=True, stable=True)[dead.cumsum(0) - 1]
        born = dead & (parts[parent] > 0)
        keys, values = children[parent].chunk(2, dim=1)
        self.keys = torch.where(born[:, None], keys, self.keys)
        self.values = torch.where(born[:, None], values, self.values)
        self.idle = self.idle.masked_fill(born, 0)


def similarity(features: Tensor, slots: Tensor) -> Tensor:
    """Cosines (..., K) of features (..., c) with slots (K, c): Eq. 4."""
    return F.linear(F.normalize(features, dim=-1), F.normalize(slots, dim=-1))


def rows(features: Tensor) -> Tensor:
    """Feature maps (B, c, h, w) as rows (B h w, c): Eqs. 2 and 3."""
    return features.permute(0, 2, 3, 1).flatten(0, 2)


def slot_counts(choice: Tensor, slots: int) -> Tensor:
    """How often each of `slots` is chosen: (slots,) int64, from choices of any shape."""
    return torch.bincount(choice.flatten(), minlength=slots)


def perplexity(counts: Tensor) -> float:
    """How many slots, equally used, would be as many as these counts amount to: exp of their entropy."""
    share = counts.double() / counts.sum()
    return float(torch.special.entr(share).sum().exp())


def attention_entropy(cosines: Tensor, temperature: float) -> float:
    """Mean entropy of the attention of Eq. 7 over rows (N, K) of cosines, as a share of log K: 1 is uniform."""
    attention = torch.softmax(cosines.float() / temperature, -1)
    return float(torch.special.entr(attention).sum(-1).mean() / torch.tensor(float(cosines.shape[-1])).log())
