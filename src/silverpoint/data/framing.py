"""How a picture meets a network of fixed multiples, with an exact inverse."""

import torch.nn.functional as F
from torch import Tensor


def pad_to_multiple(
    image: Tensor, multiple: int, value: float | None = None
) -> tuple[Tensor, tuple[slice, slice]]:
    """Centre (B, C, H, W) in the next multiples; returns it and the slices that undo it.

    200x250 becomes 256x256 with the image in rows 3:253 and columns 28:228 when the multiple is 256. The border
    is `value`, or the edge repeated when it is None.
    """
    h, w = image.shape[-2:]
    top, left = (-h % multiple) // 2, (-w % multiple) // 2
    pads = (left, -w % multiple - left, top, -h % multiple - top)
    padded = F.pad(image, pads, mode="replicate") if value is None else F.pad(image, pads, value=value)
    return padded, (slice(top, top + h), slice(left, left + w))
