"""How a picture meets a network of fixed size or multiple, with an exact inverse.

crop        the picture as it is; training takes random squares of crop_size
pad256      centred in 256x256: a 200x250 crop lies in rows 3:253 and columns 28:228 (SCA-GAN, SDGAN, MOST-Net)
resize286   scaled to 286x286 without regard to its proportions, of which training takes random 256x256 squares;
            synthesis scales to 256x256 and back (pix2pix section 6.1, FSS)
resize256   scaled to 256x256 in training and synthesis alike (KT section 4.1)
"""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

FRAMINGS = ("crop", "pad256", "resize256", "resize286")
FILLS = ("white", "edge")
SIDE, JITTER_SIDE = 256, 286


def pad_to_multiple(
    image: Tensor, multiple: int, value: float | None = None, border: int = 0
) -> tuple[Tensor, tuple[slice, slice]]:
    """Centre (B, C, H, W) in the next multiples; returns it and the slices that undo it.

    200x250 becomes 256x256 with the image in rows 3:253 and columns 28:228 when the multiple is 256. Around it is
    `value`, or the edge repeated when it is None. With a `border` it begins that many pixels from the upper left, and
    as many lie below and right of it at least.
    """
    h, w = image.shape[-2:]
    below, right = (-(n + 2 * border) % multiple for n in (h, w))
    top, left = (border, border) if border else (below // 2, right // 2)
    pads = (left, 2 * border + right - left, top, 2 * border + below - top)
    padded = F.pad(image, pads, mode="replicate") if value is None else F.pad(image, pads, value=value)
    return padded, (slice(top, top + h), slice(left, left + w))


def resize(image: Tensor, size: tuple[int, int], *, labels: bool = False) -> Tensor:
    """(B, C, H, W) scaled to `size` (height, width): bicubic, free of aliasing, within the image's own range.

    With `labels` every pixel is one of the picture's.
    """
    if tuple(image.shape[-2:]) == size:
        return image
    if labels:
        return F.interpolate(image, size, mode="nearest-exact")
    low, high = image.amin(), image.amax()
    return F.interpolate(image, size, mode="bicubic", align_corners=False, antialias=True).clamp(low, high)


def frame(
    image: Tensor,
    framing: str,
    multiple: int = 1,
    *,
    value: float | None = None,
    labels: bool = False,
    border: int = 0,
) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """(B, C, H, W) as a network trained under `framing` sees it in synthesis, and the function that undoes it.

    The undoing takes the network's result, of any number of channels, to the height and width of `image`.
    `multiple` is what the network's sides must be divisible by, `value` what a border is made of (None: the edge),
    `labels` whether the image holds class numbers or one-hot planes, which are never mixed; `border`, of the framing
    crop alone, is that of `pad_to_multiple`.
    """
    h, w = image.shape[-2:]
    if framing in ("resize256", "resize286"):
        return resize(image, (SIDE, SIDE), labels=labels), lambda result: resize(result, (h, w))
    step, border = (SIDE, 0) if framing == "pad256" else (multiple, border)
    padded, inside = pad_to_multiple(image, step, value, border)
    return padded, lambda result: result[..., inside[0], inside[1]]


def training_canvas(
    image: Tensor, framing: str, *, value: float | None = None, labels: bool = False
) -> Tensor:
    """(B, C, H, W) as training crops it: 286x286 for resize286, otherwise as synthesis sees it."""
    if framing == "resize286":
        return resize(image, (JITTER_SIDE, JITTER_SIDE), labels=labels)
    return frame(image, framing, value=value)[0]


def training_side(framing: str, crop_size: int) -> int:
    """The side of the squares that training sees."""
    return crop_size if framing == "crop" else SIDE
