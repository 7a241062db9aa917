"""Face photographs into sketches and sketches into photographs.

>>> import silverpoint
>>> silverpoint.load().sketch("me.jpg").save("me-sketch.png")  # doctest: +SKIP
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from silverpoint.synthesis.model import Card, available
    from silverpoint.synthesis.sketcher import Sketch, Sketcher, load

__version__ = "0.1.0"
__all__ = ["Card", "Sketch", "Sketcher", "__version__", "available", "load"]

# Imported when first used, so that `import silverpoint` stays quick and needs no ONNX Runtime.
_HOMES = {
    "Card": "silverpoint.synthesis.model",
    "Sketch": "silverpoint.synthesis.sketcher",
    "Sketcher": "silverpoint.synthesis.sketcher",
    "available": "silverpoint.synthesis.model",
    "load": "silverpoint.synthesis.sketcher",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
