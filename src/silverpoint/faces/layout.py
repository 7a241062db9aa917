"""Semantic layout: which of 12 parts of a portrait a pixel belongs to.

The parser is BiSeNet (Yu et al. 2018) on CelebAMask-HQ's classes, through ONNX Runtime: its graph lies beside this
file (training/parser_graph.py wrote it), its weights are the asset `bisenet`, fetched on first use.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

# CelebAMask-HQ's 19 classes, in the order of the parser's outputs
CLASSES = [
    "background",
    "skin",
    "left_brow",
    "right_brow",
    "left_eye",
    "right_eye",
    "glasses",
    "left_ear",
    "right_ear",
    "earring",
    "nose",
    "inner_mouth",
    "upper_lip",
    "lower_lip",
    "neck",
    "necklace",
    "cloth",
    "hair",
    "hat",
]
# The 12 classes of the biphasic SDGAN (section III-B), and which of the 19 each takes in. Earrings count as ears, a
# necklace as neck, a hat as hair.
PARTS = {
    "background": ("background",),
    "skin": ("skin",),
    "eyebrows": ("left_brow", "right_brow"),
    "eyes": ("left_eye", "right_eye"),
    "glasses": ("glasses",),
    "ears": ("left_ear", "right_ear", "earring"),
    "nose": ("nose",),
    "inner_mouth": ("inner_mouth",),
    "lips": ("upper_lip", "lower_lip"),
    "neck": ("neck", "necklace"),
    "cloth": ("cloth",),
    "hair": ("hair", "hat"),
}
PART_OF_CLASS = np.array(
    [next(i for i, names in enumerate(PARTS.values()) if name in names) for name in CLASSES], np.uint8
)
SIZE = 512  # what the parser was trained on


def part_mask(layout: np.ndarray, *parts: str) -> np.ndarray:
    """layout (H, W) of part numbers -> (H, W) uint8, 255 on the named parts."""
    numbers = [list(PARTS).index(p) for p in parts]
    return np.isin(layout, numbers).astype(np.uint8) * 255


def parse(photo: np.ndarray, *, threads: int = 0) -> np.ndarray:
    """photo (H, W, 3) uint8 RGB, a face crop (or a grey drawing of one) -> (H, W) uint8 numbers of PARTS.

    `threads` is how many it computes on; 0 for one a core.
    """
    height, width = photo.shape[:2]
    scale = SIZE / max(height, width)
    rows, columns = (max(32, round(side * scale / 32) * 32) for side in (height, width))
    resized = Image.fromarray(photo).resize((columns, rows), Image.Resampling.BICUBIC)
    x = np.asarray(resized, np.float32).transpose(2, 0, 1)[None] / 255
    (logits,) = _session(threads).run(None, {"image": x})
    resized_logits = [
        np.asarray(Image.fromarray(plane).resize((width, height), Image.Resampling.BILINEAR))
        for plane in logits[0]
    ]
    return PART_OF_CLASS[np.argmax(resized_logits, axis=0)]


@lru_cache(maxsize=2)
def _session(threads: int = 0) -> Any:
    import onnxruntime as ort

    from silverpoint.assets import fetch

    values = {
        name: ort.OrtValue.ortvalue_from_numpy(array)
        for name, array in read_safetensors(fetch("bisenet")).items()
        if not name.startswith(("conv_out16", "conv_out32"))  # heads that only training has
    }
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # see synthesis/model.py
    options.add_external_initializers(list(values), list(values.values()))
    graph = Path(__file__).with_name("bisenet.onnx").read_bytes()
    return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """The float32 tensors of a safetensors file: a length, a JSON header, and the numbers themselves."""
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    arrays = {}
    for name, entry in json.loads(data[8:start]).items():
        if entry.get("dtype") == "F32":
            first, last = (start + offset for offset in entry["data_offsets"])
            arrays[name] = np.frombuffer(data[first:last], "<f4").reshape(entry["shape"])
    return arrays
