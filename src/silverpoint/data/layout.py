"""Semantic layout: which of 12 parts of a portrait a pixel belongs to."""

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F

from silverpoint.nets.bisenet import CLASSES, BiSeNet, load_bisenet

# The 12 classes of the biphasic SDGAN (section IV-A), and which of the parser's 19 each takes in. Earrings count as
# ears, a necklace as neck, a hat as hair.
PARTS = {
    "background": ("background",),
    "skin": ("skin",),
    "eyebrows": ("left_brow", "right_brow"),
    "eyes": ("left_eye", "right_eye"),
    "glasses": ("glasses",),
    "ears": ("left_ear", "right_ear", "earring"),
    "nose": ("nose",),
    "inner_mouth": ("inner_mouth",),
    "lips": ("upper_lip", "lower_lip"),
    "neck": ("neck", "necklace"),
    "cloth": ("cloth",),
    "hair": ("hair", "hat"),
}
SIZE = 512  # what the parser was trained on
_PART_OF_CLASS = np.array(
    [next(i for i, (_, c) in enumerate(PARTS.items()) if name in c) for name in CLASSES], np.uint8
)


def part_mask(layout: np.ndarray, *parts: str) -> np.ndarray:
    """layout (H, W) of part numbers -> (H, W) uint8, 255 on the named parts."""
    numbers = [list(PARTS).index(p) for p in parts]
    return np.isin(layout, numbers).astype(np.uint8) * 255


@torch.no_grad()
def parse(photo: np.ndarray) -> np.ndarray:
    """photo (H, W, 3) uint8 RGB, a face crop -> (H, W) uint8 numbers of PARTS, in their order."""
    x = torch.from_numpy(photo.copy()).permute(2, 0, 1)[None].float() / 255
    scale = SIZE / max(x.shape[2:])
    small = [max(32, round(side * scale / 32) * 32) for side in x.shape[2:]]
    x = F.interpolate(x, small, mode="bicubic", align_corners=False, antialias=True).clamp(0, 1)
    logits = F.interpolate(_parser()(x), photo.shape[:2], mode="bilinear", align_corners=False)
    return _PART_OF_CLASS[logits[0].argmax(0).numpy()]


@lru_cache(maxsize=1)
def _parser() -> BiSeNet:
    return load_bisenet()
