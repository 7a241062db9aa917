"""A model file: an ONNX network with its model card inside, run on the CPU by ONNX Runtime."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from silverpoint.errors import ModelError, UsageError
from silverpoint.faces.align import CUFS, Frame
from silverpoint.faces.layout import PARTS, parse
from silverpoint.faces.saliency import saliency
from silverpoint.image import to_grey
from silverpoint.synthesis.tiles import Span, grid

FORMAT = 1  # of the card in the file's metadata; a file of a newer format is refused
# Zero padding inside a local network shows at the border of a drawing: it falls on this many px of replicated edge.
BORDER = 48
TILE_PIXELS = 1_300_000  # read by one tile, about 180 MB in the network: what keeps a command within 400 MB
WHOLE_PIXELS = 4_000_000  # drawn at most by a network that must see a picture as one
# What a network may need to know of an image beside its pixels: (H, W, 3) uint8 -> (H, W) uint8, 255 for 1 or, of a
# layout, numbers of PARTS.
PRIORS: Mapping[str, Callable[..., np.ndarray]] = {"saliency": saliency, "layout": parse}
FRAMINGS = ("crop", "pad256", "resize256", "resize286")  # how it was trained: see data/framing.py
SIDE = 256  # of what the framings but `crop` train on


@dataclass(frozen=True)
class Card:
    """What a model file says about itself."""

    name: str
    method: str
    direction: str  # photo2sketch or sketch2photo
    styles: tuple[str, ...] = ()
    default_style: str | None = None
    size_multiple: int = 16
    # px a tile reads beyond what it keeps; None: every pixel depends on all others, as with instance norm
    receptive_margin: int | None = None
    frame: Frame | None = CUFS  # of the aligned faces it was trained on; None: they were not aligned
    framing: str = "crop"  # how a face of that frame meets the network
    fill: str = "edge"  # what lies around it: edge or white
    priors: tuple[str, ...] = ()  # further inputs, made of the image
    dataset: str = ""
    licence: str = ""
    trained: str = ""
    silverpoint: str = ""  # the version that exported it
    metrics: Mapping[str, Any] = field(default_factory=dict)

    @property
    def local(self) -> bool:
        """Whether a place is drawn by its surroundings alone, whatever the size of the picture."""
        return self.receptive_margin is not None

    def style(self, name: str | None) -> str | None:
        """The style asked for, or the default one; UsageError where this model does not have it."""
        if name is None:
            return self.default_style
        if name not in self.styles:
            known = ", ".join(self.styles) or "none"
            raise UsageError(f"model {self.name} has no style {name!r}; its styles: {known}")
        return name


def read_card(text: str | None, source: str) -> Card:
    """The card in the metadata `text` of the model file `source`; ModelError if it cannot be understood."""
    if not text:
        raise ModelError(
            f"{source}: not a silverpoint model (no model card in the file); `silverpoint export` writes one"
        )
    try:
        card = json.loads(text)
        if card["format"] > FORMAT:
            raise ModelError(
                f"{source}: model format {card['format']} is newer than this silverpoint reads ({FORMAT}); "
                "upgrade with `pip install -U silverpoint`"
            )
        if card["direction"] not in ("photo2sketch", "sketch2photo"):
            raise ValueError(f"direction {card['direction']!r}")
        styles = tuple(str(style) for style in card.get("styles") or ())
        default = str(card.get("default_style") or styles[0]) if styles else None
        if default is not None and default not in styles:
            raise ValueError(f"default style {default!r}")
        frame, margin = card.get("frame", {}), card.get("receptive_margin")
        multiple, margin = int(card.get("size_multiple", 1)), None if margin is None else int(margin)
        framing, fill = str(card.get("framing") or Card.framing), str(card.get("fill") or Card.fill)
        if framing not in FRAMINGS or fill not in ("edge", "white"):
            raise ValueError(f"framing {framing!r}, fill {fill!r}")
        if multiple < 1 or (margin or 0) < 0:
            raise ValueError(f"size_multiple {multiple}, receptive_margin {margin}")
        return Card(
            name=str(card["name"]),
            method=str(card["method"]),
            direction=card["direction"],
            styles=styles,
            default_style=default,
            size_multiple=multiple,
            receptive_margin=margin,
            frame=None if frame is None else _frame(frame),
            framing=framing,
            fill=fill,
            priors=tuple(str(name) for name in card.get("priors") or ()),
            metrics=dict(card.get("metrics") or {}),
            **{key: str(card.get(key) or "") for key in ("dataset", "licence", "trained", "silverpoint")},
        )
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise ModelError(
            f"{source}: the model card in the file is damaged ({error!r}); export the model again"
        ) from None


def _frame(card: Mapping[str, Any]) -> Frame:
    """The frame in a card, CUFS where it says nothing."""
    width, height = card.get("size", CUFS.size())
    left, right = ((float(x), float(y)) for x, y in card.get("eyes", (CUFS.left_eye, CUFS.right_eye)))
    return Frame(int(width), int(height), left, right)


def _session(path: Path, threads: int, optimize: bool = True) -> Any:
    """An ONNX Runtime session on the CPU; ModelError where the file is missing or not a network."""
    import onnxruntime as ort

    if not path.is_file():
        raise ModelError(f"{path}: no such model file; `silverpoint models` lists the built-in models")
    ort.set_default_logger_severity(3)  # its warnings are for whoever exports, not for whoever draws
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.enable_mem_pattern = (
        False  # plans for one size; with every photo another it holds twice the memory
    )
    # Waiting threads would otherwise spin and take the cores from whoever else computes.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if not optimize:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's own exceptions share no base class
        reason = " ".join(str(error).split())[:200]
        raise ModelError(
            f"{path}: not a model ONNX Runtime {ort.__version__} can open, or a damaged one ({reason})"
        ) from None


def cpus() -> int:
    """CPUs this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    return len(affinity(0)) if affinity else os.cpu_count() or 1


class Model:
    """A network ready to draw. Any number of threads may call `draw` at once."""

    def __init__(self, path: str | os.PathLike[str], *, threads: int | None = None) -> None:
        """Open the model file `path` to draw on `threads` CPU threads (default: all). Raises ModelError."""
        self.path = Path(path)
        self.threads = threads or cpus()
        self._session = _session(self.path, self.threads)
        self.card = read_card(self._session.get_modelmeta().custom_metadata_map.get("silverpoint"), str(path))
        inputs = {node.name: node for node in self._session.get_inputs()}
        style = inputs.pop("style", None)
        for name in self.card.priors:
            if name not in PRIORS:
                raise ModelError(
                    f"{path}: needs the {name} of a picture, which this silverpoint cannot make; draw a prepared "
                    "dataset with `silverpoint synthesize`"
                )
            if inputs.pop(name, None) is None:
                raise ModelError(f"{path}: has no input for its prior {name}; export it again")
        outputs = self._session.get_outputs()
        if len(inputs) != 1 or len(outputs) != 1 or (style is not None) != bool(self.card.styles):
            raise ModelError(
                f"{path}: its inputs or outputs are not those of a silverpoint model; export it again"
            )
        self._image, node = inputs.popitem()
        self._grey = node.shape[1] == 1  # a network of sketches

    def draw(self, images: np.ndarray, style: str | None = None) -> np.ndarray:
        """Draw `images` (B, H, W, 3) uint8 RGB, of any size, as (B, H, W) uint8 grey, or (B, H, W, 3) RGB.

        What a local network takes does not grow with the size of the drawing: a large one is drawn in overlapping
        tiles. Raises UsageError for a style the model does not have, and for a drawing too large for a network that
        must see it as one.
        """
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or 0 in images.shape:
            raise ValueError(f"expected (B, H, W, 3) uint8 images, got {images.shape} {images.dtype}")
        one_hot = self._one_hot(self.card.style(style))
        # one by one: a batch is no faster on a CPU, only larger
        return np.stack([self._draw(image, one_hot) for image in images])

    def _draw(self, image: np.ndarray, one_hot: np.ndarray | None) -> np.ndarray:
        """(H, W, 3) uint8 -> (H, W) or (H, W, 3) uint8, the image framed as in training."""
        card, size = self.card, image.shape[:2]
        scaled, padding = _framed(card, *size)
        # as in a prepared dataset: those of a sketch are of its grey
        seen = np.stack([to_grey(image)] * 3, axis=-1) if self._grey else image
        priors = {name: PRIORS[name](seen, threads=self.threads) for name in card.priors}
        image = _resized(image, scaled)
        priors = {name: _resized(p, scaled, labels=name == "layout") for name, p in priors.items()}
        white, outside = (255, 0) if card.fill == "white" else (None, None)  # no person, and background
        sketch: np.ndarray | None = None
        tall, wide = (n + sum(more) for n, more in zip(scaled, padding, strict=True))
        for rows, columns in self._tiles(tall, wide):
            part = rows.read, columns.read
            its_priors = {name: _padded(p, padding, part, outside) for name, p in priors.items()}
            tile = self._run(_padded(image, padding, part, white), one_hot, its_priors)
            if sketch is None:
                sketch = np.empty((tall, wide, *tile.shape[2:]), np.uint8)
            sketch[rows.keep, columns.keep] = tile[rows.inner, columns.inner]
        assert sketch is not None
        (top, _), (left, _) = padding
        return _resized(sketch[top : top + scaled[0], left : left + scaled[1]], size)

    def _tiles(self, height: int, width: int) -> Iterable[tuple[Span, Span]]:
        card = self.card
        if card.receptive_margin is not None:
            return grid(height, width, card.size_multiple, card.receptive_margin, TILE_PIXELS)
        if height * width > WHOLE_PIXELS:
            raise UsageError(
                f"model {card.name} sees a picture as one, and {width}x{height} px are too many; "
                f"ask for a size of at most {math.isqrt(WHOLE_PIXELS // 2)}"
            )
        return [(Span(0, height, 0, height), Span(0, width, 0, width))]

    def _one_hot(self, style: str | None) -> np.ndarray | None:
        """(1, S) float32, or None for a model without styles."""
        if style is None:
            return None
        return np.array([[name == style for name in self.card.styles]], np.float32)

    def _run(
        self, image: np.ndarray, one_hot: np.ndarray | None, priors: Mapping[str, np.ndarray]
    ) -> np.ndarray:
        """Draw one (H, W, 3) uint8 tile, H and W multiples of the model's: (H, W) or (H, W, 3) uint8."""
        planes = to_grey(image)[None] if self._grey else image.transpose(2, 0, 1)
        x = planes[None].astype(np.float32)
        x /= 127.5
        x -= 1.0
        feeds = {self._image: x} | {name: _planes(name, p) for name, p in priors.items()}
        if one_hot is not None:
            feeds["style"] = one_hot
        (y,) = self._session.run(None, feeds)
        y = (y[0] + 1.0) * 127.5
        sketch = np.clip(np.rint(y, out=y), 0, 255, out=y).astype(np.uint8)
        return sketch[0] if len(sketch) == 1 else sketch.transpose(1, 2, 0)


def _framed(card: Card, height: int, width: int) -> tuple[tuple[int, int], tuple[tuple[int, int], ...]]:
    """The (height, width) an image is scaled to, and the (before, after) of the rows and columns put around it.

    A face of the card's frame comes to lie as in training; a larger image at the same scale.
    """
    multiple = card.size_multiple
    if card.framing == "crop" and card.local:
        below, right = -(height + 2 * BORDER) % multiple, -(width + 2 * BORDER) % multiple
        return (height, width), ((BORDER, BORDER + below), (BORDER, BORDER + right))
    if card.framing == "pad256":
        multiple = SIDE
    elif card.framing in ("resize256", "resize286"):
        # without a frame every picture, whatever its size, becomes the square
        wide, tall = card.frame.size() if card.frame else (width, height)
        height, width = max(1, round(height * SIDE / tall)), max(1, round(width * SIDE / wide))
    missing = -height % multiple, -width % multiple
    return (height, width), tuple((m // 2, m - m // 2) for m in missing)


def _padded(
    image: np.ndarray, padding: tuple[tuple[int, int], ...], part: tuple[slice, slice], value: int | None
) -> np.ndarray:
    """A part of (H, W) or (H, W, C) with rows and columns around it, of `value` or, where it is None, of the edge."""
    for axis, ((before, _), span) in enumerate(zip(padding, part, strict=True)):
        length = image.shape[axis]
        at = np.arange(span.start, span.stop) - before
        image = image.take(at, axis, mode="clip")
        if value is not None:
            image.swapaxes(0, axis)[(at < 0) | (at >= length)] = value
    return image


def _resized(image: np.ndarray, size: tuple[int, ...], labels: bool = False) -> np.ndarray:
    """(H, W) or (H, W, 3) uint8 at `size` (height, width); labels are never mixed."""
    if image.shape[:2] == tuple(size):
        return image
    method = Image.Resampling.NEAREST if labels else Image.Resampling.BICUBIC
    return np.asarray(Image.fromarray(image).resize((size[1], size[0]), method))


def _planes(name: str, prior: np.ndarray) -> np.ndarray:
    """A prior (H, W) uint8 as the network takes it: (1, C, H, W) float32 in [0, 1], C of a layout its classes."""
    if name == "layout":
        return (prior == np.arange(len(PARTS))[:, None, None])[None].astype(np.float32)
    return prior[None, None] / np.float32(255)


def _folder() -> Any:
    return resources.files("silverpoint.synthesis").joinpath("models")


def built_in() -> list[str]:
    """The names of the models that come with the package."""
    folder = _folder()
    if not folder.is_dir():
        return []
    return sorted(
        entry.name.removesuffix(".onnx") for entry in folder.iterdir() if entry.name.endswith(".onnx")
    )


def available() -> list[Card]:
    """The cards of the models that come with the package: name, styles, direction, licence, metrics."""
    cards = []
    for name in built_in():
        with resources.as_file(_folder().joinpath(f"{name}.onnx")) as path:
            # without optimisation: only the card is wanted
            metadata = _session(path, threads=1, optimize=False).get_modelmeta().custom_metadata_map
            cards.append(read_card(metadata.get("silverpoint"), str(path)))
    return cards


def open_model(model: str | os.PathLike[str], *, threads: int | None = None) -> Model:
    """The built-in model of that name, or the model file at that path. Raises ModelError."""
    name = os.fspath(model)
    if name.endswith(".onnx") or os.path.basename(name) != name:
        return Model(name, threads=threads)
    if name not in built_in():
        known = ", ".join(built_in()) or "none"
        raise ModelError(
            f"no built-in model {name!r} (there are: {known}); a model file's name ends in .onnx"
        )
    with resources.as_file(_folder().joinpath(f"{name}.onnx")) as path:
        return Model(path, threads=threads)
