"""Total variation: how much an image changes from pixel to pixel."""

from torch import Tensor


def total_variation(image: Tensor, epsilon: float = 1e-6) -> Tensor:
    """sqrt(down^2 + right^2), the differences to the next row and column, averaged over (B, C, H - 1, W - 1).

    Isotropic, as DA-GAN's Eq. 5 prints it as a sum (Mahendran & Vedaldi 2015, beta = 1). `epsilon` under the root
    keeps the gradient finite where the image is flat. Returns a scalar in float32.
    """
    image = image.float()
    down = image[..., 1:, :-1] - image[..., :-1, :-1]
    right = image[..., :-1, 1:] - image[..., :-1, :-1]
    return (down.square() + right.square() + epsilon).sqrt().mean()
