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


def he_init(net: nn.Module, slope: float = 0.0) -> None:
    """N(0, 2 / ((1 + slope^2) fan-in)) for convolutions and linear layers, zero biases, in place (He et al. 2015).

    For networks without normalisation, through which N(0, 0.02) would lose the signal.
    """
    for module in net.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight, a=slope)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def xavier_init(net: nn.Module, gain: float = 0.02) -> None:
    """N(0, 2 gain^2 / (fan-in + fan-out)) for convolutions and linear layers, zero biases, in place.

    Source: the options of CUT's code. Its weights are tens of times smaller than N(0, 0.02), so that under instance
    norm, which is blind to their scale, Adam's first steps turn them further.
    """
    for module in net.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            nn.init.xavier_normal_(module.weight, gain)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


INITS = {"normal": normal_init, "xavier": xavier_init}
