"""Where a large drawing has too much ink, the same picture drawn small, enlarged.

A network draws finer strokes on an enlarged face, but takes what has become smooth and dark there, stubble or a shaded
cheek, for hair. At the scale of its training it does not.
"""

import numpy as np
from PIL import Image, ImageFilter

SPREAD = 3.0  # px of the small drawing: the deviation of the Gaussian within which the ink is compared
LEAST = 8.0  # grey levels added to both inks, so that clean paper stays as it is
STEEP = 2.0  # the small drawing is taken whole where it has half the large one's ink
ROWS = 512  # done at once, so that a large drawing takes little more memory than it has


def without_excess(drawing: np.ndarray, small: np.ndarray) -> np.ndarray:
    """`drawing` (H, W) uint8, giving way to `small` (h, w) uint8, the same picture drawn smaller, where that has less
    ink around a place. 255 is paper. A new array.
    """
    (height, width), (h, w) = drawing.shape, small.shape
    shrunk = Image.fromarray(drawing).resize((w, h), Image.Resampling.BOX)
    here, there = (
        255 - np.asarray(image.filter(ImageFilter.GaussianBlur(SPREAD)), np.float32)
        for image in (shrunk, Image.fromarray(small))
    )
    share = Image.fromarray(np.clip(STEEP * (1 - (there + LEAST) / (here + LEAST)), 0, 1))
    source = Image.fromarray(small)
    mixed = np.empty_like(drawing)
    for top in range(0, height, ROWS):
        bottom = min(top + ROWS, height)
        size, box = (width, bottom - top), (0, top * h / height, w, bottom * h / height)
        taken = np.asarray(share.resize(size, Image.Resampling.BILINEAR, box=box))
        enlarged = np.asarray(source.resize(size, Image.Resampling.BICUBIC, box=box), np.float32)
        mixed[top:bottom] = np.rint(drawing[top:bottom] * (1 - taken) + enlarged * taken)
    return mixed
