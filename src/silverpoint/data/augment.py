"""Joint geometry for photo, sketch and priors; light, colour and background for the photo alone.

Everything is a function of tensors and a torch.Generator, so a step's batch depends on its seed and nothing else.
"""

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Augmentation:
    """Probabilities and ranges. `Augmentation.none()` leaves the centre crop as it is."""

    flip: float = 0.5
    plain: float = 0.0  # probability that a pair is only mirrored and cropped, pixels as they are
    scale: tuple[float, float] = (0.8, 1.5)  # of photo and sketch together; log-uniform
    rotation: float = 6.0  # degrees, either way
    shift: float = 0.0  # pixels, either way, where the crop is not smaller than the picture
    tone: float = 0.85  # probability that light and colour change
    background: float = 0.7  # probability that the background is replaced, where a prior shows the person
    skin: float = 0.3  # probability that the skin is darkened, where a layout exists

    @classmethod
    def none(cls) -> "Augmentation":
        return cls(flip=0.0, scale=(1.0, 1.0), rotation=0.0, shift=0.0, tone=0.0, background=0.0, skin=0.0)

    def only_moved(self) -> "Augmentation":
        """The same mirroring and shift, and nothing else: no pixel is resampled, no light changed."""
        return replace(Augmentation.none(), flip=self.flip, shift=self.shift)


def uniform(low: float, high: float, generator: torch.Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator))


@dataclass(frozen=True)
class Crop:
    """A square of a picture: `size` pixels of result from `size / scale` of the picture about (cx, cy)."""

    size: int
    scale: float
    angle: float  # radians
    mirrored: bool
    cx: float  # picture pixels, from the picture's corner
    cy: float


def draw_crop(height: int, width: int, size: int, a: Augmentation, generator: torch.Generator) -> Crop:
    """A random similarity. The crop stays inside the picture where that is large enough for it."""
    low, high = a.scale
    low = max(low, min(size / min(height, width), high)) if (low, high) != (1.0, 1.0) else low
    scale = math.exp(uniform(math.log(low), math.log(high), generator))
    angle = math.radians(uniform(-a.rotation, a.rotation, generator))
    mirrored = uniform(0, 1, generator) < a.flip
    cx, cy = (_centre(side, size / scale, a.shift, generator) for side in (width, height))
    return Crop(size, scale, angle, mirrored, cx, cy)


def take_crop(images: Tensor, crop: Crop, *, labels: bool = False) -> Tensor:
    """(C, H, W) -> (C, size, size) float32: the crop of all channels, bicubic, edges replicated; of uint8 in its range.

    With `labels` every pixel is one of the picture's, never a mixture. Without scale and rotation every crop is made
    of the picture's own pixels, whose grain no resampling softens.
    """
    _, h, w = images.shape
    size = crop.size
    if crop.scale == 1 and crop.angle == 0:
        left, top = round(crop.cx - size / 2), round(crop.cy - size / 2)
        if left >= 0 and top >= 0 and left + size <= w and top + size <= h:
            square = images[:, top : top + size, left : left + size]
        else:
            rows = torch.arange(top, top + size).clamp(0, h - 1)
            columns = torch.arange(left, left + size).clamp(0, w - 1)
            square = images[:, rows[:, None], columns]
        return (square.flip(2) if crop.mirrored else square).float()
    most = 255.0 if images.dtype == torch.uint8 else math.inf
    images = images.float()
    # output coordinates in [-1, 1] -> picture coordinates in [-1, 1] (align_corners=False)
    span, flip = size / crop.scale, -1.0 if crop.mirrored else 1.0
    cos, sin = math.cos(crop.angle) * span, math.sin(crop.angle) * span
    theta = torch.tensor(
        [
            [flip * cos / w, -sin / w, 2 * crop.cx / w - 1],
            [flip * sin / h, cos / h, 2 * crop.cy / h - 1],
        ],
        device=images.device,
    )
    if crop.scale < 1 and not labels:  # a grid sample does not average: shrink by area first
        images = F.interpolate(images[None], scale_factor=crop.scale, mode="bilinear", antialias=True)[0]
    grid = F.affine_grid(theta[None], [1, images.shape[0], size, size], align_corners=False)
    mode = "nearest" if labels else "bicubic"
    square = F.grid_sample(images[None], grid, mode=mode, padding_mode="border", align_corners=False)[0]
    return square.clamp(0, most) if math.isfinite(most) else square


def _centre(side: int, span: float, shift: float, generator: torch.Generator) -> float:
    """Where a crop of `span` pixels lies on a picture side: anywhere inside, or in the middle when larger."""
    if span < side:
        return uniform(span / 2, side - span / 2, generator)
    return side / 2 + uniform(-shift, shift, generator)


def change_tone(photo: Tensor, generator: torch.Generator) -> Tensor:
    """(3, H, W) in [0, 1] -> the same under other light: exposure, contrast, colour, shading, grain."""
    _, h, w = photo.shape
    gains = torch.exp(0.12 * torch.randn(3, 1, 1, generator=generator)).to(photo.device)
    grey = photo.mean(0, keepdim=True)
    saturation = 0.0 if uniform(0, 1, generator) < 0.15 else uniform(0.5, 1.4, generator)
    x = (grey + (photo - grey) * saturation) * gains
    x = x.clamp(1e-4, 1) ** math.exp(uniform(-0.55, 0.55, generator))
    direction = uniform(0, 2 * math.pi, generator)
    ramp = torch.linspace(-1, 1, w)[None] * math.cos(direction) + torch.linspace(-1, 1, h)[
        :, None
    ] * math.sin(direction)
    x = x * torch.exp(uniform(0, 0.35, generator) * ramp).to(photo.device)
    contrast = uniform(0.7, 1.25, generator)
    x = (x - 0.5) * contrast + 0.5 + uniform(-0.12, 0.12, generator)
    if uniform(0, 1, generator) < 0.3:
        x = x + uniform(0, 0.04, generator) * torch.randn(x.shape, generator=generator).to(x.device)
    if uniform(0, 1, generator) < 0.25:  # a soft or enlarged photo
        small = uniform(0.45, 0.9, generator)
        x = F.interpolate(x[None], scale_factor=small, mode="bilinear", antialias=True)
        x = F.interpolate(x, size=(h, w), mode="bicubic", align_corners=False)[0]
    return x.clamp(0, 1)


def darken_skin(photo: Tensor, skin: Tensor, generator: torch.Generator) -> Tensor:
    """The same face with darker skin; photo (3, H, W) and skin (1, H, W) in [0, 1].

    Skin reflects less, and less still of green and blue; its highlights stay. So the drawing follows the face's
    form and not its complexion, which the portraits of a small studio set would otherwise teach it.
    """
    depth = uniform(0.25, 0.8, generator)
    tint = torch.tensor([1.0, 0.93, 0.86]).view(3, 1, 1).to(photo.device)
    light = photo.mean(0, keepdim=True)
    dark = photo * (depth * tint) + 0.35 * (light - 0.7).clamp(min=0)
    return (skin * dark + (1 - skin) * photo).clamp(0, 1)


def background_alone(photo: Tensor, person: Tensor) -> Tensor:
    """photo (3, H, W) with the person (1, H, W), both in [0, 1], filled in from around them."""
    outside = (person < 0.05).to(photo.dtype)
    both = torch.cat([photo * outside, outside])[None]
    coarse = F.interpolate(both, scale_factor=1 / 8, mode="area")
    colours, weights = coarse[:, :3], coarse[:, 3:]
    for reach in (2, 8):  # near what is outside where that is close by, else further away
        colour, weight = (F.avg_pool2d(x, 2 * reach + 1, 1, reach) for x in (colours, weights))
        missing = (weights < 1e-3).to(photo.dtype)
        colours = colours + missing * colour
        weights = weights + missing * weight
    fill = F.interpolate(colours / weights.clamp(min=1e-6), size=photo.shape[1:], mode="bilinear")[0]
    return torch.where(outside.bool(), photo, fill)


def replace_background(photo: Tensor, person: Tensor, other: Tensor, generator: torch.Generator) -> Tensor:
    """Put another background behind the person.

    photo (3, H, W), person (1, H, W) and `other` (3, h, w, any background) in [0, 1]. The new one is a plain colour,
    a gradient, soft clouds, or, half of the time, the other photo's. On a white background it is multiplied in,
    which leaves no white fringe around hair.
    """
    _, h, w = photo.shape
    kind = int(uniform(0, 6, generator))
    if kind == 0:
        new = torch.rand(3, 1, 1, generator=generator).expand(3, h, w)
    elif kind == 1:
        grey = torch.rand(1, 2, 2, generator=generator)
        new = (grey + 0.15 * torch.randn(3, 1, 1, generator=generator)).expand(3, 2, 2)
    elif kind == 2:
        new = torch.rand(3, 5, 5, generator=generator)
    else:
        new = other.cpu() if uniform(0, 1, generator) < 0.5 else other.flip(2).cpu()
    new = (
        F.interpolate(new[None], size=(h, w), mode="bilinear", align_corners=True)[0]
        .clamp(0, 1)
        .to(photo.device)
    )
    behind = photo[:, person[0] < 0.05]
    if behind.numel() and float(behind.mean()) > 0.93:
        new = new * photo
    return person * photo + (1 - person) * new
