"""The parts of a portrait, as a dataset stores them: what faces/layout.py makes of a picture."""

from silverpoint.faces.layout import PARTS, parse, part_mask

__all__ = ["PARTS", "parse", "part_mask"]
