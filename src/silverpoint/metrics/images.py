"""What every metric expects of its input, and the two geometries the field scores in.

Images are float tensors (B, C, H, W) on the 8-bit scale, [0, 255]. Grey means the 8-bit luma of Pillow's mode
L, (19595 R + 38470 G + 7471 B + 2**15) >> 16, rounded to an integer before any metric sees it.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Geometry = Literal["200x250", "padded256", "native"]
GEOMETRIES: tuple[Geometry, ...] = ("200x250", "padded256", "native")

CROP_HEIGHT, CROP_WIDTH = 250, 200  # the CUFS crop
PADDED = 256  # the square that networks see: the crop lies in rows 3:253, columns 28:228


def check_pair(fake: Tensor, real: Tensor) -> None:
    """Raise ValueError unless both are float batches (B, C, H, W) of one shape, with 1 or 3 channels."""
    for name, image in (("fake", fake), ("real", real)):
        if image.ndim != 4 or image.shape[1] not in (1, 3):
            raise ValueError(f"{name} must be (B, 1 or 3, H, W), not {tuple(image.shape)}")
        if not image.is_floating_point():
            raise ValueError(f"{name} must be float on the 8-bit scale [0, 255], not {image.dtype}")
    if fake.shape != real.shape:
        raise ValueError(f"images to compare differ in shape: {tuple(fake.shape)} and {tuple(real.shape)}")


def to_geometry(images: Tensor, geometry: Geometry = "200x250", fill: float = 0.0) -> Tensor:
    """Lay images (B, C, 250, 200) out as they are scored.

    `200x250` is the crop itself; `padded256` is the crop centred on a 256x256 square of `fill` (black, as
    most of the field pads), which alone raises PSNR by exactly 10 log10(256 * 256 / (250 * 200)) = 1.175 dB;
    `native` takes any size as it comes.
    """
    if geometry not in GEOMETRIES:
        raise ValueError(f"unknown geometry {geometry!r}; one of {', '.join(GEOMETRIES)}")
    height, width = images.shape[-2:]
    if geometry == "native":
        return images
    if (height, width) != (CROP_HEIGHT, CROP_WIDTH):
        raise ValueError(
            f"geometry {geometry} scores {CROP_WIDTH}x{CROP_HEIGHT} images (width x height), these are "
            f"{width}x{height}; undo the padding or resizing first, or score them as they are (native)"
        )
    if geometry == "200x250":
        return images
    top, left = (PADDED - CROP_HEIGHT) // 2, (PADDED - CROP_WIDTH) // 2
    return F.pad(images, (left, left, top, top), value=fill)


def to_rgb(images: Tensor) -> Tensor:
    """(B, 1 or 3, H, W) -> (B, 3, H, W): grey is repeated, as the networks' users do."""
    return images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images


def to_luma(images: Tensor) -> Tensor:
    """(B, 1 or 3, H, W) -> (B, 1, H, W): the unrounded NTSC luma that FSIM's reference computes."""
    if images.shape[1] == 1:
        return images
    weights = torch.tensor([0.299, 0.587, 0.114], dtype=images.dtype, device=images.device)
    return torch.einsum("bchw,c->bhw", images, weights)[:, None]
