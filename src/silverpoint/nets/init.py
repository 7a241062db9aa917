"""Weight initialisation shared by the GANs of this field."""

from torch import nn


def normal_init(net: nn.Module, std: float = 0.02) -> None:
    """N(0, std) for convolutions and linear layers, N(1, std) for affine normalisation, zero biases, in place.

    Source: DCGAN (Radford et al. 2016), section 3, as used by pix2pix, CycleGAN and CUT.
    """
    for module in net.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            nn.init.normal_(module.weight, 0.0, std)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, (nn.BatchNorm2d, nn.InstanceNorm2d)) and module.affine:
            nn.init.normal_(module.weight, 1.0, std)
            nn.init.zeros_(module.bias)
