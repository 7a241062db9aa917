"""One file per paper. A new method is a file here, a line below, and a page in docs/methods/."""

from silverpoint.methods.method import Method, method_class, names, register


def _pix2pix() -> type[Method]:
    from silverpoint.methods.pix2pix import Pix2Pix

    return Pix2Pix


def _pencil() -> type[Method]:
    from silverpoint.methods.pencil import Pencil

    return Pencil


register("pix2pix", _pix2pix)
register("pencil", _pencil)

__all__ = ["Method", "method_class", "names"]
