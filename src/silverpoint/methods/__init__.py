"""One file per paper. A new method is a file here, a line below, and a page in docs/methods/."""

from silverpoint.methods.method import Method, method_class, names, register


def _pix2pix() -> type[Method]:
    from silverpoint.methods.pix2pix import Pix2Pix

    return Pix2Pix


def _pencil() -> type[Method]:
    from silverpoint.methods.pencil import Pencil

    return Pencil


def _cyclegan() -> type[Method]:
    from silverpoint.methods.cyclegan import CycleGAN

    return CycleGAN


def _dagan() -> type[Method]:
    from silverpoint.methods.dagan import DAGAN

    return DAGAN


def _cut() -> type[Method]:
    from silverpoint.methods.cut import CUT

    return CUT


def _fss() -> type[Method]:
    from silverpoint.methods.fss import FSS

    return FSS


def _sdgan() -> type[Method]:
    from silverpoint.methods.sdgan import SDGAN

    return SDGAN


def _kt() -> type[Method]:
    from silverpoint.methods.kt import KT

    return KT


def _mostnet() -> type[Method]:
    from silverpoint.methods.mostnet import MOSTNet

    return MOSTNet


register("kt", _kt)
register("mostnet", _mostnet)
register("sdgan", _sdgan)
register("cut", _cut)
register("fss", _fss)
register("cyclegan", _cyclegan)
register("dagan", _dagan)
register("pix2pix", _pix2pix)
register("pencil", _pencil)

__all__ = ["Method", "method_class", "names"]
